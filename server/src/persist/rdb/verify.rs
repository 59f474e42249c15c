//! Whether a file is what was written, without loading it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use holdfast_engine::dump::crc64;
use holdfast_engine::dump::record::opcode;

use super::MAGIC;

/// The checksum at the end of a file.
const SUM_LEN: usize = 8;

/// What is wrong with the base of a journal, which always ends in a checksum; `None` if nothing is.
///
/// # Errors
/// When it cannot be read.
pub fn verify(path: &Path) -> io::Result<Option<&'static str>> {
    const STEP: usize = 1 << 18;
    let mut file = File::open(path)?;
    let mut buffer = Vec::with_capacity(STEP + SUM_LEN + 1);
    let mut begun = false;
    let mut sum = 0;
    loop {
        let read = Read::by_ref(&mut file).take(STEP as u64).read_to_end(&mut buffer)?;
        if !begun && !buffer.starts_with(MAGIC) {
            return Ok(Some("it does not begin with REDIS"));
        }
        begun = true;
        if read == 0 {
            break;
        }
        // The end mark and the checksum are looked at when nothing follows them.
        let covered = buffer.len().saturating_sub(SUM_LEN + 1);
        sum = crc64(sum, &buffer[..covered]);
        buffer.drain(..covered);
    }
    let Some((&[opcode::END], told)) = buffer.split_first_chunk::<1>() else {
        return Ok(Some("it was not written whole"));
    };
    match <[u8; SUM_LEN]>::try_from(told) {
        Err(_) => Ok(Some("it was not written whole")),
        Ok(told) if u64::from_le_bytes(told) != crc64(sum, &[opcode::END]) => {
            Ok(Some("its checksum is wrong"))
        }
        Ok(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_flipped_byte_and_a_cut_are_seen() {
        let path = std::env::temp_dir().join(format!("holdfast-verify-{}", std::process::id()));
        let mut file = b"REDIS0010".to_vec();
        file.extend(std::iter::repeat_n(7, 600_000));
        file.push(opcode::END);
        let sum = crc64(0, &file);
        file.extend(sum.to_le_bytes());
        fs::write(&path, &file).unwrap();
        assert_eq!(verify(&path).unwrap(), None);
        for at in [0, 9, 300_000, file.len() - 9, file.len() - 8, file.len() - 1] {
            let mut flipped = file.clone();
            flipped[at] ^= 4;
            fs::write(&path, &flipped).unwrap();
            assert!(verify(&path).unwrap().is_some(), "byte {at}");
        }
        for len in [0, 4, 9, 12, 300_000, file.len() - 1] {
            fs::write(&path, &file[..len]).unwrap();
            assert!(verify(&path).unwrap().is_some(), "cut at {len}");
        }
        fs::remove_file(&path).unwrap();
    }
}
