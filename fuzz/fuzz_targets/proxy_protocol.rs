//! The first byte is the limit in units of 16, the rest what a peer sends. No cut of it may make a
//! difference, and what is read can be sent again and read as the same.
#![no_main]

use tightloop::proxy_protocol::{Parsed, Version, parse};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((limit, input)) = data.split_first() else { return };
    let limit = usize::from(*limit) * 16;
    let whole = parse(input, limit);
    let mut length = 0;
    while parse(&input[..length], limit) == Ok(Parsed::Incomplete) && length < input.len() {
        length += 1;
    }
    assert_eq!(parse(&input[..length], limit), whole);
    if length < input.len() {
        assert_eq!(parse(&input[..length + 1], limit), whole);
    }
    let Ok(Parsed::Header { header, length: taken }) = whole else { return };
    assert_eq!(taken, length);
    assert!(taken <= if header.version() == Version::V1 { 107 } else { limit });
    assert!(header.tlvs().all(|tlv| tlv.value.len() < taken));
    let _ = (header.authority(), header.netns(), header.ssl().map(|ssl| ssl.common_name()));
    let bytes = header.encode().expect("what was received can be said");
    let again = parse(&bytes, usize::MAX).expect("what was encoded can be read");
    let Parsed::Header { header: again, length } = again else { panic!("all of it") };
    assert_eq!(length, bytes.len());
    assert_eq!(again.encode().as_ref(), Ok(&bytes));
    assert_eq!((again.source(), again.destination()), (header.source(), header.destination()));
    assert_eq!(again.tlvs().count(), header.tlvs().count());
});
