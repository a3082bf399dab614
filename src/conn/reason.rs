//! Why a connection ends, noted while it is on the way there.

use crate::conn::state::ConnCore;
use crate::error::CloseReason;

/// What is noted: the two reasons of nearly every connection in a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    Nothing,
    Local,
    PeerClosed,
    /// It is in the connection's `Extra`.
    Other,
}

impl ConnCore {
    /// Notes the reason, in place of one that was noted before.
    pub(crate) fn note_reason(&mut self, reason: CloseReason) {
        if let Some(extra) = &mut self.extra {
            extra.reason = None;
        }
        self.reason = match reason {
            CloseReason::Local => Noted::Local,
            CloseReason::PeerClosed => Noted::PeerClosed,
            other => {
                self.extra_mut().reason = Some(other);
                Noted::Other
            }
        };
    }

    /// Notes the reason, unless one was noted before.
    pub(crate) fn note_first_reason(&mut self, reason: CloseReason) {
        if self.reason == Noted::Nothing {
            self.note_reason(reason);
        }
    }

    /// The reason that was noted, and no more; ours where there was none.
    pub(crate) fn take_reason(&mut self) -> CloseReason {
        match std::mem::replace(&mut self.reason, Noted::Nothing) {
            Noted::Nothing | Noted::Local => CloseReason::Local,
            Noted::PeerClosed => CloseReason::PeerClosed,
            Noted::Other => {
                let noted = self.extra.as_mut().and_then(|extra| extra.reason.take());
                noted.unwrap_or(CloseReason::Local)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Address;
    use crate::conn::state::Phase;

    #[test]
    fn the_first_reason_stays_until_another_is_put_in_its_place() {
        let mut conn = ConnCore::new(Address::Unix(None), Phase::Open);
        conn.note_first_reason(CloseReason::WriteStalled);
        conn.note_first_reason(CloseReason::PeerClosed);
        assert!(matches!(conn.take_reason(), CloseReason::WriteStalled));
        assert!(matches!(conn.take_reason(), CloseReason::Local));
        conn.note_reason(CloseReason::IdleTimeout);
        conn.note_reason(CloseReason::PeerClosed);
        assert!(matches!(conn.take_reason(), CloseReason::PeerClosed));
        assert!(conn.extra.is_some_and(|extra| extra.is_empty()));
    }
}
