//! CRC32c (Castagnoli; RFC 4960, appendix B): the checksum that a header of version 2 may carry.

/// The generator polynomial 0x1EDC6F41, bits reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

/// The checksum of the `parts` one behind the other.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(!0, |sum, byte| sum >> 8 ^ TABLE[usize::from(sum as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 3720, B.4, and the check value of the catalogue of CRC algorithms.
    #[test]
    fn the_published_vectors_hold() {
        let counting: Vec<u8> = (0..32).collect();
        let counting_down: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(crc32c(&[&[0xff; 32]]), 0x62a8_ab43);
        assert_eq!(crc32c(&[&counting]), 0x46dd_794e);
        assert_eq!(crc32c(&[&counting_down]), 0x113f_db5c);
        assert_eq!(crc32c(&[]), 0);
    }

    #[test]
    fn parts_are_as_good_as_the_whole() {
        assert_eq!(crc32c(&[b"123", b"", b"456789"]), crc32c(&[b"123456789"]));
    }
}
