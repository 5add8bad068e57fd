use super::{
    frame::{self, Kind},
    pages::{self, Encoder, RUN},
    *,
};
use crate::memory::{self, Memory, dirty::PAGE};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lamp {
    on: bool,
    hours: u64,
    /// New in version 2.
    colour: String,
}

impl Saved for Lamp {
    const KIND: &'static str = "lamp";
    const VERSION: u32 = 2;
    fn upgrade(version: u32, mut fields: serde_json::Value) -> Result<serde_json::Value, String> {
        if version != 1 {
            return Err(format!("there never was a version {version}"));
        }
        fields["colour"] = "white".into();
        Ok(fields)
    }
}

fn read_back(json: &str) -> State {
    serde_json::from_str(json).unwrap()
}

#[test]
fn older_parts_are_upgraded_and_what_nobody_knows_is_refused_by_name() {
    let old = r#"{"components":[{"kind":"lamp","id":3,"version":1,"fields":{"on":true,"hours":18446744073709551615}}]}"#;
    let lamp: Lamp = read_back(old).take(3).unwrap();
    assert_eq!(lamp, Lamp { on: true, hours: u64::MAX, colour: "white".into() });
    let say = |error: Error| error.to_string();
    assert!(say(read_back(old).take::<Lamp>(4).unwrap_err()).contains("no lamp 4"));
    assert!(say(read_back(old).finish().unwrap_err()).contains("lamp 3"));
    let newer = old.replace("\"version\":1", "\"version\":3");
    assert!(say(read_back(&newer).take::<Lamp>(3).unwrap_err()).contains("version 3"));
    let ancient = old.replace("\"version\":1", "\"version\":0");
    assert!(say(read_back(&ancient).take::<Lamp>(3).unwrap_err()).contains("never was"));
    let odd = old.replace("\"on\":true", "\"on\":true,\"dimmed\":1");
    assert!(say(read_back(&odd).take::<Lamp>(3).unwrap_err()).contains("dimmed"));
}

const BYTES: u64 = 1 << 20;

fn filled(content: &[(u16, u8)]) -> Memory {
    let memory = memory::create(BYTES).unwrap();
    for (page, byte) in content {
        let at = u64::from(*page) % (BYTES / PAGE) * PAGE;
        // Some pages compress well, some not at all.
        let mut seed = u32::from(*byte) | 1;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        let bytes: Vec<u8> = (0..PAGE).map(|_| if byte % 2 == 0 { *byte } else { next() }).collect();
        memory.write_slice(&bytes, GuestAddress(at)).unwrap();
    }
    memory
}

fn bytes(memory: &Memory) -> Vec<u8> {
    let mut bytes = vec![0; BYTES as usize];
    memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn memory_arrives_as_it_was(
        content in prop::collection::vec(any::<(u16, u8)>(), 0..40),
        before in prop::collection::vec(any::<(u16, u8)>(), 0..40),
        fresh in any::<bool>(),
    ) {
        let from = filled(&content);
        // What is not said where memory is fresh was never written.
        let to = filled(if fresh { &[] } else { &before });
        let (mut payload, mut encoder) = (Vec::new(), Encoder::new(fresh));
        for page in (0..BYTES / PAGE).step_by(RUN) {
            encoder.add(&from, page * PAGE, RUN, &mut payload).unwrap();
        }
        pages::apply(&to, &payload, &mut Vec::new()).unwrap();
        prop_assert!(bytes(&from) == bytes(&to));
    }

    #[test]
    fn any_payload_is_taken_or_refused(
        mut payload in prop::collection::vec(any::<u8>(), 0..200),
        address in 0_u64..2 * BYTES, pages in 0_u32..70, kind in 0_u32..4, length in 0_u32..300,
    ) {
        let memory = memory::create(BYTES).unwrap();
        let _ = pages::apply(&memory, &payload, &mut Vec::new());
        let header = [&address.to_le_bytes()[..], &pages.to_le_bytes(), &kind.to_le_bytes(), &length.to_le_bytes()].concat();
        payload.splice(0..0, header);
        let _ = pages::apply(&memory, &payload, &mut Vec::new());
    }

    #[test]
    fn a_frame_arrives_whole_or_is_refused(payload in prop::collection::vec(any::<u8>(), 0..300), bit in any::<usize>()) {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, Kind::Memory, &payload).unwrap();
        prop_assert_eq!(frame::read(&mut &bytes[..]).unwrap(), (Kind::Memory, payload));
        for end in 0..bytes.len() {
            prop_assert!(frame::read(&mut &bytes[..end]).is_err());
        }
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(frame::read(&mut &bytes[..]).is_err());
    }

    #[test]
    fn any_bytes_are_no_frame_or_one(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = frame::read(&mut &bytes[..]);
    }
}
