//! What a key can hold: a string, a hash, a list or a set, and how many bytes that takes.

use std::collections::VecDeque;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use crate::reply::Reply;
use crate::text::{Text, allocation};

/// Strings up to this length are part of the table. With them an entry is one line of the cache.
pub const INLINE_BYTES: usize = 30;

/// Strings from this length on are shared with the replies that tell them, not copied.
const SHARED_MIN_BYTES: usize = 16 * 1024;

/// A string kept where it is short, in memory of its own, or shared.
pub enum Value {
    Inline(u8, [u8; INLINE_BYTES]),
    Own(Vec<u8>),
    Shared(Box<Bytes>),
    Hash(Box<Hash>),
    List(Box<List>),
    Set(Box<Set>),
}

/// The types that TYPE tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    String,
    Hash,
    List,
    Set,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Hash => "hash",
            Kind::List => "list",
            Kind::Set => "set",
        }
    }
}

impl Value {
    /// A string.
    #[inline]
    pub fn string(bytes: &[u8]) -> Value {
        let mut inline = [0; INLINE_BYTES];
        if let Some(place) = inline.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
            Value::Inline(bytes.len() as u8, inline)
        } else if bytes.len() < SHARED_MIN_BYTES {
            Value::Own(bytes.to_vec())
        } else {
            Value::Shared(Box::new(Bytes::copy_from_slice(bytes)))
        }
    }

    /// Becomes this string, in the memory that it has if that suits.
    #[inline]
    pub fn set_string(&mut self, bytes: &[u8]) {
        match self {
            Value::Inline(length, inline) if bytes.len() <= INLINE_BYTES => {
                *length = bytes.len() as u8;
                inline[..bytes.len()].copy_from_slice(bytes);
            }
            Value::Own(own)
                if bytes.len() > INLINE_BYTES
                    && bytes.len() < SHARED_MIN_BYTES
                    && (bytes.len()..=2 * bytes.len()).contains(&own.capacity()) =>
            {
                own.clear();
                own.extend_from_slice(bytes);
            }
            _ => *self = Value::string(bytes),
        }
    }

    /// The string; `None` if it is none.
    #[inline]
    pub fn as_string(&self) -> Option<&[u8]> {
        match self {
            Value::Inline(length, bytes) => Some(&bytes[..usize::from(*length).min(INLINE_BYTES)]),
            Value::Own(bytes) => Some(bytes),
            Value::Shared(bytes) => Some(bytes),
            Value::Hash(_) | Value::List(_) | Value::Set(_) => None,
        }
    }

    /// Puts bytes behind a string and answers its length; `None` if it is none.
    pub fn append(&mut self, more: &[u8]) -> Option<usize> {
        if let Value::Own(own) = self {
            own.extend_from_slice(more);
            return Some(own.len());
        }
        let length = self.as_string()?.len() + more.len();
        let mut whole = match std::mem::replace(self, Value::Own(Vec::new())) {
            // In place, where no reply that tells it is still on its way.
            Value::Shared(bytes) => {
                bytes.try_into_mut().map(Vec::from).unwrap_or_else(|b| b.to_vec())
            }
            other => other.as_string().unwrap_or_default().to_vec(),
        };
        whole.extend_from_slice(more);
        *self = if length > INLINE_BYTES { Value::Own(whole) } else { Value::string(&whole) };
        Some(length)
    }

    /// Tells a string to a client; false if it is none.
    #[inline]
    pub fn tell(&self, reply: &mut Reply) -> bool {
        match self {
            Value::Inline(length, bytes) => reply.bulk_inline(*length, bytes),
            Value::Own(bytes) => reply.bulk(bytes),
            Value::Shared(bytes) => reply.bulk_shared(Bytes::clone(bytes)),
            Value::Hash(_) | Value::List(_) | Value::Set(_) => return false,
        }
        true
    }

    /// A string that was appended to, and is so long that replies should share it.
    #[inline]
    pub fn is_unshared(&self) -> bool {
        matches!(self, Value::Own(own) if own.len() >= SHARED_MIN_BYTES)
    }

    /// Has replies share the string, if it is a long one.
    pub fn share(&mut self) {
        if let Value::Own(own) = self
            && own.len() >= SHARED_MIN_BYTES
        {
            own.shrink_to_fit();
            *self = Value::Shared(Box::new(std::mem::take(own).into()));
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Value::Inline(..) | Value::Own(_) | Value::Shared(_) => Kind::String,
            Value::Hash(_) => Kind::Hash,
            Value::List(_) => Kind::List,
            Value::Set(_) => Kind::Set,
        }
    }

    /// Bytes it occupies outside of the table.
    #[inline]
    pub fn heap(&self) -> usize {
        match self {
            Value::Inline(..) => 0,
            Value::Own(bytes) => allocation(bytes.capacity()),
            Value::Shared(bytes) => allocation(size_of::<Bytes>()) + allocation(bytes.len()),
            Value::Hash(hash) => allocation(size_of::<Hash>()) + hash.heap(),
            Value::List(list) => allocation(size_of::<List>()) + list.heap(),
            Value::Set(set) => allocation(size_of::<Set>()) + set.heap(),
        }
    }
}

/// Fields with their values.
#[derive(Default)]
pub struct Hash {
    fields: HashMap<Text, Text, RandomState>,
    /// Bytes of the texts that are not part of the map.
    texts: usize,
}

impl Hash {
    /// Sets a field and answers whether it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        let value = Text::from(value);
        self.texts += value.heap();
        if let Some(place) = self.fields.get_mut(field) {
            self.texts -= place.heap();
            *place = value;
            return false;
        }
        let field = Text::from(field);
        self.texts += field.heap();
        self.fields.insert(field, value);
        true
    }

    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        self.fields.get(field).map(|value| &**value)
    }

    pub fn remove(&mut self, field: &[u8]) -> bool {
        let Some((field, value)) = self.fields.remove_entry(field) else { return false };
        self.texts -= field.heap() + value.heap();
        if self.fields.len() < self.fields.capacity() / 8 {
            self.fields.shrink_to(self.fields.len() * 2);
        }
        true
    }

    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(field, value)| (&**field, &**value))
    }

    fn heap(&self) -> usize {
        allocation(self.fields.allocation_size()) + self.texts
    }
}

/// Elements in order.
#[derive(Default)]
pub struct List {
    elements: VecDeque<Text>,
    texts: usize,
}

impl List {
    pub fn push(&mut self, element: &[u8], at_front: bool) {
        let element = Text::from(element);
        self.texts += element.heap();
        if at_front {
            self.elements.push_front(element);
        } else {
            self.elements.push_back(element);
        }
    }

    pub fn pop(&mut self, at_front: bool) -> Option<Text> {
        let deque = &mut self.elements;
        let popped = if at_front { deque.pop_front() } else { deque.pop_back() }?;
        self.texts -= popped.heap();
        if deque.len() < deque.capacity() / 8 {
            deque.shrink_to(deque.len() * 2);
        }
        Some(popped)
    }

    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// The elements at these places, which are within the list.
    pub fn range(&self, places: std::ops::Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.elements.range(places).map(|element| &**element)
    }

    fn heap(&self) -> usize {
        allocation(self.elements.capacity() * size_of::<Text>()) + self.texts
    }
}

/// Members, each once.
#[derive(Default)]
pub struct Set {
    members: HashSet<Text, RandomState>,
    texts: usize,
}

impl Set {
    /// Answers whether the member is new.
    pub fn add(&mut self, member: &[u8]) -> bool {
        if self.members.contains(member) {
            return false;
        }
        let member = Text::from(member);
        self.texts += member.heap();
        self.members.insert(member)
    }

    pub fn remove(&mut self, member: &[u8]) -> bool {
        let Some(member) = self.members.take(member) else { return false };
        self.texts -= member.heap();
        if self.members.len() < self.members.capacity() / 8 {
            self.members.shrink_to(self.members.len() * 2);
        }
        true
    }

    pub fn contains(&self, member: &[u8]) -> bool {
        self.members.contains(member)
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.members.iter().map(|member| &**member)
    }

    fn heap(&self) -> usize {
        allocation(self.members.allocation_size()) + self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_what_it_was_set_to_whatever_it_was_before() {
        assert_eq!(size_of::<Value>(), 32);
        let lengths = [0, 1, 30, 31, 60, 63, 1000, SHARED_MIN_BYTES, 100_000];
        for before in lengths {
            for after in lengths {
                let mut value = Value::string(&vec![b'a'; before]);
                value.set_string(&vec![b'b'; after]);
                assert_eq!(value.as_string(), Some(&vec![b'b'; after][..]));
                assert_eq!(value.heap() == 0, after <= INLINE_BYTES);
                assert!(value.heap() <= 2 * after + 64, "{before} {after}");
                assert_eq!(value.append(b"c"), Some(after + 1));
                assert!(
                    value.as_string().is_some_and(|s| s.ends_with(b"c") && s.len() == after + 1)
                );
            }
        }
    }

    #[test]
    fn a_value_that_a_reply_still_tells_does_not_change() {
        let mut value = Value::string(&[b'a'; 20_000]);
        let mut reply = Reply::new(false);
        assert!(value.tell(&mut reply));
        value.append(b"more");
        let told = reply.into_bytes();
        assert_eq!(told.len(), 20_000 + 8 + 2);
        assert!(!told.windows(4).any(|four| four == b"more"));
    }

    #[test]
    fn what_collections_occupy_comes_back_to_nothing() {
        let (mut hash, mut list, mut set) = (Hash::default(), List::default(), Set::default());
        let texts: Vec<Vec<u8>> = (0..1000_usize).map(|n| vec![b'x'; n % 100 + 4]).collect();
        for (number, text) in texts.iter().enumerate() {
            let unique = [text, &number.to_le_bytes()[..]].concat();
            assert!(hash.set(&unique, text) && !hash.set(&unique, &unique) && set.add(&unique));
            list.push(text, number % 2 == 0);
        }
        let full = (hash.heap(), list.heap(), set.heap());
        for (number, text) in texts.iter().enumerate() {
            let unique = [text, &number.to_le_bytes()[..]].concat();
            assert!(hash.remove(&unique) && set.remove(&unique) && !set.remove(&unique));
            assert!(list.pop(number % 3 == 0).is_some());
        }
        assert_eq!((hash.texts, list.texts, set.texts), (0, 0, 0));
        let empty = (hash.heap(), list.heap(), set.heap());
        assert!(empty.0 < full.0 / 20 && empty.1 < full.1 / 20 && empty.2 < full.2 / 20);
    }
}
