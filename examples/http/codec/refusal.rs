//! Why a request is refused: a status and a sentence for whoever has to find the fault.

/// The last answer on a connection: behind a request that was not understood nobody knows where
/// the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The code and its words, such as `400 Bad Request`.
    pub status: &'static str,
    /// What is wrong, in lower case and without an end.
    pub reason: &'static str,
}

impl Refusal {
    /// 400
    pub const fn bad(reason: &'static str) -> Self {
        Refusal { status: "400 Bad Request", reason }
    }

    /// 413
    pub const fn body_too_long() -> Self {
        Refusal { status: "413 Content Too Large", reason: "the body is too long" }
    }

    /// 414
    pub const fn line_too_long() -> Self {
        Refusal { status: "414 URI Too Long", reason: "the request line is too long" }
    }

    /// 417
    pub const fn expectation() -> Self {
        Refusal { status: "417 Expectation Failed", reason: "only 100-continue can be expected" }
    }

    /// 431
    pub const fn head_too_long(reason: &'static str) -> Self {
        Refusal { status: "431 Request Header Fields Too Large", reason }
    }

    /// 501
    pub const fn unknown_coding() -> Self {
        Refusal {
            status: "501 Not Implemented",
            reason: "the only transfer coding here is chunked",
        }
    }

    /// 505
    pub const fn version() -> Self {
        Refusal { status: "505 HTTP Version Not Supported", reason: "only HTTP/1.1 and HTTP/1.0" }
    }
}
