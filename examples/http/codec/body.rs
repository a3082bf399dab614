//! The body of a request, piece by piece as it comes, without what frames it.

use super::fields::Framing;
use super::line::{Line, line_end, name_length};
use super::refusal::Refusal;

/// The length of a chunk and its extensions, with the CRLF.
const MAX_CHUNK_LINE_BYTES: usize = 256;
/// Extensions of all chunks of a body: nobody uses them but to make a server read for nothing.
const MAX_EXTENSION_BYTES: usize = 4 * 1024;
/// All trailers, with their CRLFs.
const MAX_TRAILER_BYTES: usize = 8 * 1024;
/// More hexadecimal digits do not fit 64 bits.
const MAX_SIZE_DIGITS: usize = 16;

const BAD_SIZE: Refusal = Refusal::bad("the size of a chunk is no number");
const BAD_EXTENSION: Refusal = Refusal::bad("a chunk's extension is malformed");

/// Reads one body.
///
/// INVARIANT: the pieces told and those to come of the chunk that is being read are not more than
/// the limit given to [`new`](BodyReader::new).
#[derive(Debug, PartialEq, Eq)]
pub struct BodyReader {
    stage: Stage,
    /// What further chunks may have.
    allowed: u64,
    extensions: usize,
    trailers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// So many bytes are to come, behind which nothing is.
    Rest(u64),
    ChunkSize,
    /// So many bytes of the chunk are to come.
    Chunk(u64),
    ChunkEnd,
    Trailers,
}

impl BodyReader {
    /// A body of at most `limit` bytes.
    #[inline]
    pub fn new(framing: Framing, limit: u64) -> Result<Self, Refusal> {
        let stage = match framing {
            Framing::Length(length) if length > limit => return Err(Refusal::body_too_long()),
            Framing::Length(length) => Stage::Rest(length),
            Framing::Chunked => Stage::ChunkSize,
        };
        Ok(BodyReader { stage, allowed: limit, extensions: 0, trailers: 0 })
    }

    #[inline]
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Rest(0)
    }

    /// Reads on in a body that is not done: takes a step, and answers how many bytes of `bytes` it
    /// took, and which of these are the body's. Where it took none, more have to come.
    pub fn read<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, &'a [u8]), Refusal> {
        let taken = match self.stage {
            Stage::Rest(left) => {
                let piece = piece(bytes, left);
                self.stage = Stage::Rest(left - piece.len() as u64);
                return Ok((piece.len(), piece));
            }
            Stage::Chunk(left) => {
                let piece = piece(bytes, left);
                self.stage = match left - piece.len() as u64 {
                    0 => Stage::ChunkEnd,
                    left => Stage::Chunk(left),
                };
                return Ok((piece.len(), piece));
            }
            Stage::ChunkEnd => self.chunk_end(bytes)?,
            Stage::ChunkSize => self.chunk_size(bytes)?,
            Stage::Trailers => self.trailer(bytes)?,
        };
        Ok((taken, &[]))
    }

    fn chunk_end(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match bytes {
            [] | [b'\r'] => Ok(0),
            [b'\r', b'\n', ..] => {
                self.stage = Stage::ChunkSize;
                Ok(2)
            }
            _ => Err(Refusal::bad("a chunk is longer than its size")),
        }
    }

    fn chunk_size(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let window = bytes.get(..MAX_CHUNK_LINE_BYTES).unwrap_or(bytes);
        let end = match line_end(window, 0)? {
            Line::EndsAt(end) => end,
            Line::Partial(_) if window.len() < MAX_CHUNK_LINE_BYTES => return Ok(0),
            Line::Partial(_) => return Err(Refusal::bad("the size of a chunk is too long")),
        };
        let line = &window[..end];
        let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(end);
        let size = chunk_size(&line[..digits])?;
        self.extensions += end - digits;
        check_extensions(&line[digits..])?;
        if self.extensions > MAX_EXTENSION_BYTES {
            return Err(Refusal::bad("too many extensions of chunks"));
        }
        self.allowed = self.allowed.checked_sub(size).ok_or(Refusal::body_too_long())?;
        self.stage = if size == 0 { Stage::Trailers } else { Stage::Chunk(size) };
        Ok(end + 2)
    }

    /// Trailers must be headers, and are dropped: nothing here waits for one, and one that says how
    /// long the body was comes too late.
    fn trailer(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let limit = MAX_TRAILER_BYTES - self.trailers;
        let window = bytes.get(..limit).unwrap_or(bytes);
        let end = match line_end(window, 0)? {
            Line::EndsAt(end) => end,
            Line::Partial(_) if window.len() < limit => return Ok(0),
            Line::Partial(_) => return Err(Refusal::head_too_long("the trailers are too long")),
        };
        match end {
            0 => self.stage = Stage::Rest(0),
            _ => drop(name_length(&window[..end])?),
        }
        self.trailers += end + 2;
        Ok(end + 2)
    }
}

/// The start of `bytes`, at most `left` of them.
#[inline]
fn piece(bytes: &[u8], left: u64) -> &[u8] {
    // What does not fit an address is more than there is.
    let length = usize::try_from(left).unwrap_or(usize::MAX);
    bytes.get(..length).unwrap_or(bytes)
}

fn chunk_size(digits: &[u8]) -> Result<u64, Refusal> {
    if digits.is_empty() || digits.len() > MAX_SIZE_DIGITS {
        return Err(BAD_SIZE);
    }
    let digits = str::from_utf8(digits).map_err(|_| BAD_SIZE)?;
    u64::from_str_radix(digits, 16).map_err(|_| BAD_SIZE)
}

/// `;name`, `;name=value` or `;name="quoted"`, any number of them. White space, which the grammar has
/// for historic clients only, is where parsers part: refused.
fn check_extensions(mut rest: &[u8]) -> Result<(), Refusal> {
    while let [first, after @ ..] = rest {
        let name = super::line::token_length(after);
        if *first != b';' || name == 0 {
            return Err(if *first == b';' { BAD_EXTENSION } else { BAD_SIZE });
        }
        rest = match &after[name..] {
            [b'=', b'"', quoted @ ..] => behind_quotes(quoted).ok_or(BAD_EXTENSION)?,
            [b'=', value @ ..] => match super::line::token_length(value) {
                0 => return Err(BAD_EXTENSION),
                length => &value[length..],
            },
            rest => rest,
        };
    }
    Ok(())
}

/// What is behind the closing quotation mark.
fn behind_quotes(text: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return text.get(at + 1..),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}
