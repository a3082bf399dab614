//! [`Discard`]: drops a frame of known length that is over the limit, as its bytes come in.

use super::Decoded;
use crate::error::DecodeError;

/// The rest of a frame that is being dropped.
#[derive(Debug, Clone, Default)]
pub(super) struct Discard {
    /// Bytes still to come. 0: nothing is being dropped.
    left: u64,
    /// Valid while `left > 0`: the frame's length, if its error is told at its end.
    untold: Option<u64>,
}

impl Discard {
    #[inline]
    pub(super) fn is_active(&self) -> bool {
        self.left > 0
    }

    /// Drops a frame of `length > limit` bytes, of which `available` are there.
    #[cold]
    pub(super) fn begin<F>(
        &mut self,
        length: u64,
        available: usize,
        limit: usize,
        fail_fast: bool,
    ) -> Decoded<F> {
        let error = DecodeError::TooLong { length, limit };
        match usize::try_from(length) {
            Ok(length) if length <= available => Decoded::error(length, error),
            _ => {
                self.left = length - available as u64;
                self.untold = (!fail_fast).then_some(length);
                match fail_fast {
                    true => Decoded::error(available, error),
                    false => Decoded::discard(available),
                }
            }
        }
    }

    /// Drops what has come. `Ok`: the frame's end was among it, at this place, and there is no
    /// more to tell.
    #[cold]
    pub(super) fn go_on<F>(&mut self, available: usize, limit: usize) -> Result<usize, Decoded<F>> {
        let dropped = usize::try_from(self.left).map_or(available, |left| left.min(available));
        self.left -= dropped as u64;
        if self.left > 0 {
            return Err(Decoded::discard(dropped));
        }
        match self.untold.take() {
            Some(length) => Err(Decoded::error(dropped, DecodeError::TooLong { length, limit })),
            None => Ok(dropped),
        }
    }
}
