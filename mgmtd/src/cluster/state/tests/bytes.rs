//! What is to be removed from pools.

use super::*;
use std::collections::HashSet;

fn apply(state: &mut State, revision: u64, op: Op) -> Outcome {
    state.apply(revision, &command(op), &mut Vec::new())
}

/// A whole image in the pool `POOL`, with a shared pool beside.
fn with_image() -> (State, ImageId) {
    let (mut state, _) = start();
    let (id, upload) = (ImageId(Uuid::from_u128(60)), Uuid::nil());
    let spec =
        ImageSpec { kind: ImageKind::Disk, format: ImageFormat::Raw, pool: None, sha256: None, boot: None };
    let create = CreateImage { name: "i".into(), labels: BTreeMap::new(), spec };
    let (size, sha256) = (Bytes(4096), String::new());
    let ops = [
        Op::CreatePool { id: SHARED, create: shared_pool("s") },
        stands(HOST, true),
        Op::CreateImage { id, create },
        Op::BeginUpload { id, upload, receiver: None },
        Op::FinishUpload { id, upload, size, virtual_size: size, sha256 },
        Op::CopyImage { id, pool: SHARED },
        Op::CopyImage { id, pool: POOL },
    ];
    for (revision, op) in (2u64..).zip(ops) {
        apply(&mut state, revision, op).unwrap();
    }
    (state, id)
}

#[test]
fn an_upload_is_broken_only_where_nobody_is_at_work_on_it() {
    let (mut state, id) = with_image();
    let mut record = (*state.images[&id]).clone();
    let upload = Uuid::from_u128(7);
    record.upload = Some(upload);
    for (receiver, other) in [(None, HostId(Uuid::from_u128(9))), (Some(HOST), HostId(Uuid::from_u128(9)))] {
        record.receiver = receiver;
        state.images.insert(id, Arc::new(record.clone()));
        assert_eq!(state.broken_uploads(HOST, &HashSet::new()), [(id, upload)]);
        assert!(state.broken_uploads(other, &HashSet::new()).is_empty(), "another receives it");
        // A daemon takes requests before it looks for what its start broke.
        assert!(state.broken_uploads(HOST, &[upload].into()).is_empty());
    }
}

#[test]
fn a_deleted_image_is_discarded_until_each_holder_has_removed_it() {
    let (mut state, id) = with_image();
    assert_eq!(state.images[&id].copies, [SHARED].into(), "it is no copy of itself");
    apply(&mut state, 10, Op::DeleteImage { id, expect: None }).unwrap();
    assert_eq!(state.discarded.keys().copied().collect::<Vec<_>>(), [POOL, SHARED]);
    let gone = Discarded { images: [id].into(), ..Discarded::default() };
    apply(&mut state, 11, Op::BytesGone { pool: SHARED, gone: gone.clone() }).unwrap();
    assert!(state.discarded[&POOL].images.contains(&id), "one holder does not speak for another");
    apply(&mut state, 12, Op::BytesGone { pool: POOL, gone }).unwrap();
    assert!(state.discarded.is_empty());
}

#[test]
fn what_is_to_go_with_a_pool_goes_with_it() {
    let (mut state, id) = with_image();
    apply(&mut state, 10, Op::DeletePool { id: SHARED, expect: None }).unwrap();
    apply(&mut state, 11, Op::ForgetPool { id: SHARED }).unwrap();
    assert!(state.images[&id].copies.is_empty());
    apply(&mut state, 12, Op::DeleteImage { id, expect: None }).unwrap();
    assert_eq!(state.discarded.keys().copied().collect::<Vec<_>>(), [POOL]);
}

#[test]
fn an_image_that_comes_back_with_its_host_is_not_removed() {
    let (mut state, id) = with_image();
    let old = state.images[&id].clone();
    apply(&mut state, 10, Op::DeleteImage { id, expect: None }).unwrap();
    apply(&mut state, 10, Op::DeletePool { id: SHARED, expect: None }).unwrap();
    apply(&mut state, 10, Op::ForgetPool { id: SHARED }).unwrap();
    let brought = merge::Objects { images: vec![old], ..merge::Objects::default() };
    let mut changes = Vec::new();
    let ctx = &mut apply::Context::new(11, Timestamp::UNIX_EPOCH, &mut changes);
    merge::carry_out(&mut state, ctx, &brought, &merge::Plan::default());
    assert!(state.discarded.is_empty());
    assert!(state.images[&id].copies.is_empty(), "its pool is gone");
}

#[test]
fn only_what_is_unknown_is_adopted() {
    let (mut state, image) = with_image();
    let adopt = |adopted: Adopted, name: &str| Op::Adopt {
        pool: POOL,
        name: name.into(),
        labels: BTreeMap::new(),
        adopted,
    };
    let volume = |source| Adopted::Volume {
        id: VolumeId(Uuid::from_u128(61)),
        format: ImageFormat::Qcow2,
        size: Bytes::mib(1),
        source,
    };
    let other = Some(ImageId(Uuid::from_u128(62)));
    assert!(matches!(apply(&mut state, 10, adopt(volume(other), "v")), Err(Refusal::Conflict(_))));
    apply(&mut state, 10, adopt(volume(Some(image)), "v")).unwrap();
    assert!(matches!(apply(&mut state, 11, adopt(volume(None), "w")), Err(Refusal::Conflict(_))));
    let size = Bytes(4096);
    let same = Adopted::Image {
        id: image,
        kind: ImageKind::Disk,
        format: ImageFormat::Raw,
        size,
        virtual_size: size,
        sha256: String::new(),
    };
    assert!(matches!(apply(&mut state, 11, adopt(same, "j")), Err(Refusal::Conflict(_))));
}
