//! CRC-32 (IEEE, as in zip and Ethernet) over the store's own rows and over what travels between stores, and CRC-32C to
//! read RocksDB's logs.
//!
//! RocksDB checks its blocks when it reads them; ours is checked after the bytes have travelled all the way to us.
//! Own rows are few and short and copies are bounded in rate, so a byte-wise table is fast enough and spares a dependency.

use crate::StoreError;

const IEEE: [u32; 256] = table(0xEDB8_8320);
const CASTAGNOLI: [u32; 256] = table(0x82F6_3B78);

const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { polynomial ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

fn crc(table: &[u32; 256], parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(u32::MAX, |crc, byte| table[((crc ^ u32::from(*byte)) & 0xFF) as usize] ^ (crc >> 8))
}

/// CRC-32 (IEEE) of the parts one after another: for pieces of a store that travel.
pub fn checksum(parts: &[&[u8]]) -> u32 {
    crc(&IEEE, parts)
}

fn crc32(bytes: &[u8]) -> u32 {
    checksum(&[bytes])
}

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc(&CASTAGNOLI, &[bytes])
}

/// Appends the checksum of all that is in `row`.
pub(crate) fn seal(row: &mut Vec<u8>) {
    let crc = crc32(row);
    row.extend_from_slice(&crc.to_be_bytes());
}

/// Checks and cuts off the checksum.
pub(crate) fn unseal<'a>(row: &'a [u8], what: &str) -> Result<&'a [u8], StoreError> {
    let Some((body, sum)) = row.split_last_chunk::<4>() else {
        return Err(StoreError::corrupt(what, format!("row of {} bytes is too short", row.len())));
    };
    if crc32(body) == u32::from_be_bytes(*sum) {
        Ok(body)
    } else {
        Err(StoreError::corrupt(what, "checksum of the row does not match"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!((crc32(b""), crc32c(b"")), (0, 0));
        assert_eq!(checksum(&[b"1234", b"", b"56789"]), crc32(b"123456789"));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let mut row = b"progress of a store".to_vec();
        seal(&mut row);
        assert_eq!(unseal(&row, "row").unwrap(), b"progress of a store");
        for bit in 0..row.len() * 8 {
            let mut bad = row.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&bad, "row").unwrap_err().is_corrupt(), "bit {bit}");
        }
        for len in 0..row.len() {
            assert!(unseal(&row[..len], "row").unwrap_err().is_corrupt(), "cut to {len}");
        }
    }
}
