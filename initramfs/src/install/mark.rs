//! How an installed disk tells by which answer file it was installed.
//!
//! The disk's GUID (RFC 9562 version 8) is half random, half a hash of the answer file. A medium that stays in the machine would
//! otherwise, with the erase word, install anew at each start and take every machine of the host with it.

use lq_api::answer::Answer;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// First byte of the hash in a GUID; the bytes before it are random, but for version and variant.
const HASH_AT: usize = 9;

/// What an answer file leaves on the disks it installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([u8; 16 - HASH_AT]);

impl Mark {
    /// Of an answer file. The password is left out: a short hash of it would be easier to guess than the one that is kept.
    pub fn of(answer: &Answer) -> Self {
        let said = Answer { admin: None, ..answer.clone() };
        // An answer file is plain text and numbers: it can always be written down again.
        let digest = Sha256::digest(serde_json::to_vec(&said).unwrap_or_default());
        let mut mark = [0; 16 - HASH_AT];
        mark.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(mark)
    }

    /// A new GUID for a disk.
    pub fn disk_guid(self) -> Uuid {
        let mut bytes = Uuid::new_v4().into_bytes();
        bytes.iter_mut().skip(HASH_AT).zip(self.0).for_each(|(to, from)| *to = from);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// Whether a disk with this GUID was installed by the answer file.
    pub fn is_on(self, guid: &str) -> bool {
        Uuid::parse_str(guid)
            .is_ok_and(|guid| guid.get_version_num() == 8 && guid.as_bytes().ends_with(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Answer {
        Answer::parse(text).unwrap()
    }

    #[test]
    fn a_disk_knows_the_answer_file_it_came_from() {
        let one = answer("version = 1\n[install]\ndisk = \"auto\"\n[admin]\npassword = \"first password\"\n");
        let same =
            answer("version = 1\n[install]\ndisk = \"auto\"\n[admin]\npassword = \"other password\"\n");
        let other = answer("version = 1\n[install]\ndisk = \"auto\"\n[host]\nname = \"other\"\n");
        let guid = Mark::of(&one).disk_guid();
        assert_ne!(guid, Mark::of(&one).disk_guid(), "every disk has a GUID of its own");
        assert!(Mark::of(&same).is_on(&guid.to_string()));
        assert!(!Mark::of(&other).is_on(&guid.to_string()));
        assert!(!Mark::of(&one).is_on(&Uuid::new_v4().to_string()) && !Mark::of(&one).is_on("no GUID"));
    }
}
