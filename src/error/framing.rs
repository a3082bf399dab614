//! What can go wrong with frames: [`DecodeError`] is the peer's fault, [`EncodeError`] our own.

use std::error::Error;
use std::fmt;

/// Why received bytes are not a frame. What the peer sent caused it, nothing else.
#[derive(Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame is longer than the codec's limit.
    TooLong {
        /// The frame's length in bytes, counted as the limit counts. Of a frame whose end is not
        /// in sight it is what was seen so far.
        length: u64,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The length field holds a negative number.
    NegativeLength {
        /// The number in the field.
        length: i64,
    },
    /// The bytes contradict the format.
    Corrupt {
        /// In which way.
        reason: &'static str,
    },
    /// The stream ended within a frame.
    Incomplete {
        /// Bytes of the unfinished frame that were waiting. 0 when they were being discarded.
        buffered: usize,
    },
    /// The error of a codec that is not one of tightloop's.
    Other(Box<dyn Error + Send + Sync>),
}

impl DecodeError {
    /// The error of a codec of one's own.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        DecodeError::Other(error.into())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::TooLong { length, limit } => {
                write!(f, "a frame of {length} bytes or more, the limit is {limit}")
            }
            DecodeError::NegativeLength { length } => write!(f, "a frame of length {length}"),
            DecodeError::Corrupt { reason } => write!(f, "a corrupt frame: {reason}"),
            DecodeError::Incomplete { buffered } => {
                write!(f, "the stream ended within a frame, of which {buffered} bytes were there")
            }
            DecodeError::Other(error) => error.fmt(f),
        }
    }
}

impl Error for DecodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            DecodeError::Other(error) => error.source(),
            _ => None,
        }
    }
}

/// Why an item cannot be sent as a frame. Nothing of it was written.
#[derive(Debug)]
#[non_exhaustive]
pub enum EncodeError {
    /// The frame would be longer than the codec's limit, or than its length field can tell.
    TooLong {
        /// The length that it would have, in bytes, counted as the limit counts.
        length: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The item is shorter than what the format needs: a header's part is missing, the length
    /// would be negative, or the receiver strips more than there is.
    TooShort {
        /// The item's length, in bytes.
        length: usize,
        /// The shortest that can be sent, in bytes.
        least: u64,
    },
    /// The item contains the frame's terminator: the peer would see two frames.
    ContainsDelimiter {
        /// Where in the item it begins, in bytes.
        at: usize,
    },
    /// The item has not the one length that frames have.
    WrongLength {
        /// The item's length, in bytes.
        length: usize,
        /// The length that it has to have, in bytes.
        expected: usize,
    },
    /// The error of a codec that is not one of tightloop's.
    Other(Box<dyn Error + Send + Sync>),
}

impl EncodeError {
    /// The error of a codec of one's own.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        EncodeError::Other(error.into())
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::TooLong { length, limit } => {
                write!(f, "a frame of length {length}, the limit is {limit}")
            }
            EncodeError::TooShort { length, least } => {
                write!(f, "an item of {length} bytes, at least {least} are needed")
            }
            EncodeError::ContainsDelimiter { at } => {
                write!(f, "the item contains the frame's terminator at byte {at}")
            }
            EncodeError::WrongLength { length, expected } => {
                write!(f, "an item of {length} bytes, frames have {expected}")
            }
            EncodeError::Other(error) => error.fmt(f),
        }
    }
}

impl Error for EncodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            EncodeError::Other(error) => error.source(),
            _ => None,
        }
    }
}
