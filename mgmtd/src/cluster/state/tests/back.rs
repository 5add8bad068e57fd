//! A host of an older epoch comes back with what it did meanwhile.

use super::*;

fn describe(state: &mut State) {
    let peer = Peer { pin: "pin".into(), address: "192.0.2.1:7443".into() };
    let op = Op::DescribeHost { host: HOST, peer, capacity: None };
    state.apply(2, &command(op), &mut Vec::new()).unwrap();
}

fn reform(state: &mut State, revision: u64) {
    let lost = vec![HOST];
    let by = HostId(Uuid::from_u128(0x200));
    let formation = Formation { epoch: 2, at: Timestamp::UNIX_EPOCH, by, base: None, lost, restored: false };
    state.apply(revision, &command(Op::Reform { formation }), &mut Vec::new()).unwrap();
}

fn coming(old: &State, rename: bool, back: u64, pin: &str) -> Application {
    Application {
        host: HOST,
        name: "h".into(),
        from: Uuid::nil(),
        peer: Peer { pin: pin.into(), address: "192.0.2.1:7443".into() },
        capacity: None,
        boot: None,
        objects: merge::Objects::held_by(old, HOST),
        rename,
        back: Some(back),
    }
}

fn admit(state: &mut State, revision: u64, application: Application) -> Outcome {
    let op = Op::Admit { token: TOKEN.into(), application: Box::new(application) };
    state.apply(revision, &command(op), &mut Vec::new())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever both sides did meanwhile, even to objects of the same id: it comes in whole or is refused whole.
    #[test]
    fn it_comes_in_whole_or_not_at_all(
        survivor in application(),
        common in prop::collection::vec(op(), 0..30),
        theirs in prop::collection::vec(op(), 0..30),
        ours in prop::collection::vec(op(), 0..30),
        rename: bool,
    ) {
        let (mut state, _) = start();
        describe(&mut state);
        let survivor = Application { rename: true, ..survivor };
        admit(&mut state, 3, survivor).unwrap();
        let mut revision = 4;
        let mut apply = |state: &mut State, ops: Vec<Op>| {
            // One epoch is enough: a further one takes the invitation back.
            for op in ops.into_iter().filter(|op| !matches!(op, Op::Reform { .. })) {
                drop(state.apply(revision, &command(op), &mut Vec::new()));
                revision += 1;
            }
            revision
        };
        apply(&mut state, common);
        let mut old = state.clone();
        apply(&mut old, theirs);
        let at = apply(&mut state, vec![]);
        reform(&mut state, at);
        prop_assert!(state.join_tokens.is_empty());
        state.apply(at, &command(invitation()), &mut Vec::new()).unwrap();
        let at = apply(&mut state, ours);
        let before = state.clone();
        let told = admit(&mut state, at, coming(&old, rename, 1, "pin"));
        check(&state, at);
        match told {
            Ok(_) => {
                prop_assert!(state.hosts[&HOST].lost.is_none());
                // What runs there is known, and what was known stands.
                for record in old.vms.values().filter(|r| r.vm.status.host == Some(HOST)) {
                    prop_assert!(state.vms.contains_key(&record.vm.meta.id));
                }
                for (id, record) in &before.vms {
                    prop_assert_eq!(state.vms.get(id), Some(record));
                }
            }
            Err(_) => prop_assert_eq!(&state, &before),
        }
    }
}

#[test]
fn nothing_comes_back_into_a_pool_that_is_being_deleted() {
    let (mut state, _) = start();
    describe(&mut state);
    let apply = |state: &mut State, revision: u64, op: Op| {
        state.apply(revision, &command(op), &mut Vec::new()).unwrap();
    };
    apply(&mut state, 10, Op::CreatePool { id: SHARED, create: shared_pool("s") });
    apply(&mut state, 10, stands(HOST, true));
    let mut old = state.clone();
    let (format, pool) = (ImageFormat::Raw, Some(SHARED));
    let spec = ImageSpec { kind: ImageKind::Disk, format, pool, sha256: None, boot: None };
    let create = CreateImage { name: "i".into(), labels: BTreeMap::new(), spec };
    apply(&mut old, 11, Op::CreateImage { id: ImageId(Uuid::from_u128(90)), create });
    reform(&mut state, 40);
    apply(&mut state, 41, invitation());
    apply(&mut state, 42, Op::DeletePool { id: SHARED, expect: None });
    assert!(state.pools[&SHARED].deleting);
    let told = admit(&mut state, 50, coming(&old, false, 1, "pin"));
    assert!(matches!(&told, Err(Refusal::Conflict(why)) if why.contains("needs a pool")), "{told:?}");
}

#[test]
fn only_itself_and_only_from_an_older_epoch() {
    let (mut state, vm) = with_vm(RestartPolicy::OnFailure, true);
    describe(&mut state);
    let old = state.clone();
    let refused = |state: &mut State, application| match admit(state, 50, application) {
        Err(Refusal::Conflict(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused(&mut state, coming(&old, true, 1, "pin")).contains("is a member already"));
    reform(&mut state, 40);
    state.apply(41, &command(invitation()), &mut Vec::new()).unwrap();
    assert!(refused(&mut state, coming(&old, true, 2, "pin")).contains("is a member already"));
    assert!(refused(&mut state, coming(&old, true, 1, "else")).contains("is a member already"));
    assert_eq!(state.hosts[&HOST].lost.unwrap().epoch, 2);
    admit(&mut state, 51, coming(&old, false, 1, "pin")).unwrap();
    assert_eq!(state.hosts[&HOST].lost, None);
    assert_eq!(state.vms[&vm], old.vms[&vm]);
    assert_eq!(state.hosts[&HOST].meta.generation, old.hosts[&HOST].meta.generation);
}
