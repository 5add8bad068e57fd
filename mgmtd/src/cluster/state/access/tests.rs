//! Properties of the decision, and of what keeps it true: an administrator there always is, a refresh token and a code count
//! once.

use super::super::{Change, Command, Op, Outcome, Refusal, Reply, State, command::NewUser};
use super::*;
use jiff::Timestamp;
use lq_api::{
    GroupId, SessionId, TokenId,
    access::{
        CreateGroup, CreateRole, GroupSpec, OPERATOR, Permission, RoleSpec, UpdateGroup, UpdateUser,
        UserSource, UserSpec,
    },
    auth::{FIRST_USER, Token},
};
use proptest::prelude::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn some_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let pair = (prop_oneof![Just("folder"), Just("tier")], prop_oneof![Just("prod"), Just("test")]);
    prop::collection::vec(pair, 0..3).prop_map(|pairs| labels(&pairs))
}

fn kind() -> impl Strategy<Value = ObjectKind> {
    prop::sample::select(ObjectKind::ALL)
}

fn permission() -> impl Strategy<Value = Permission> {
    prop::sample::select(Permission::ALL)
}

fn id() -> impl Strategy<Value = Uuid> {
    (1u128..3).prop_map(Uuid::from_u128)
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::Cluster),
        some_labels().prop_map(|labels| Scope::Labels { labels }),
        (kind(), id()).prop_map(|(object, id)| Scope::Object { object, id }),
    ]
}

fn right() -> impl Strategy<Value = Right> {
    let permissions = prop::collection::btree_set(permission(), 0..6);
    (scope(), permissions).prop_map(|(scope, permissions)| Right { scope, permissions })
}

fn rights() -> impl Strategy<Value = Rights> {
    (prop::collection::vec(right(), 0..4), prop::option::of(right()), any::<bool>())
        .prop_map(|(granted, limit, read_only)| Rights::of(granted).limited(limit, read_only))
}

/// An object in owned form.
type Thing = Option<(ObjectKind, Uuid, BTreeMap<String, String>)>;

fn thing() -> impl Strategy<Value = Thing> {
    prop::option::of((kind(), id(), some_labels()))
}

fn object(thing: &Thing) -> Object<'_> {
    match thing {
        None => Object::Cluster,
        Some((kind, id, labels)) => Object::Of { kind: *kind, id: *id, labels },
    }
}

proptest! {
    #[test]
    fn what_is_allowed_was_granted(rights in rights(), permission in permission(), thing in thing()) {
        if rights.may(permission, object(&thing)) {
            prop_assert!(rights.somewhere(permission));
            let shown = rights.shown();
            prop_assert!(shown.iter().any(|r| r.permissions.contains(&permission)), "{:?}", shown);
        }
    }

    #[test]
    fn more_grants_never_allow_less(
        granted in prop::collection::vec(right(), 0..4),
        more in right(),
        permission in permission(),
        thing in thing(),
    ) {
        let before = Rights::of(granted.clone()).may(permission, object(&thing));
        let mut with = granted;
        with.push(more);
        prop_assert!(!before || Rights::of(with).may(permission, object(&thing)));
    }

    #[test]
    fn a_limit_only_takes_away(
        granted in prop::collection::vec(right(), 0..4),
        limit in right(),
        read_only in any::<bool>(),
        permission in permission(),
        thing in thing(),
    ) {
        let owner = Rights::of(granted);
        let token = owner.clone().limited(Some(limit.clone()), read_only);
        if token.may(permission, object(&thing)) {
            prop_assert!(owner.may(permission, object(&thing)));
            prop_assert!(Rights::of(vec![limit]).may(permission, object(&thing)));
            prop_assert!(!read_only || permission.reads());
        }
    }

    /// Nobody can give what they do not have: whatever a covered right allows, who covers it may do too.
    #[test]
    fn what_one_covers_one_may_do(rights in rights(), right in right(), thing in thing()) {
        if rights.covers(&right) {
            for permission in Permission::ALL {
                if Rights::of(vec![right.clone()]).may(*permission, object(&thing)) {
                    prop_assert!(rights.may(*permission, object(&thing)), "{permission}");
                }
            }
        }
    }

    #[test]
    fn the_cluster_is_ruled_from_the_cluster_only(right in right(), permission in permission()) {
        if Rights::of(vec![right.clone()]).may(permission, Object::Cluster) {
            prop_assert_eq!(right.scope, Scope::Cluster);
        }
    }
}

#[test]
fn scopes_hold_where_they_say() {
    let on = |scope| Rights::of(vec![Right { scope, permissions: [Permission::VmPower].into() }]);
    let prod = labels(&[("folder", "prod"), ("tier", "1")]);
    let vm = |n, labels| Object::Of { kind: ObjectKind::Vm, id: Uuid::from_u128(n), labels };
    let (test, none) = (labels(&[("folder", "test")]), labels(&[]));
    let folder = on(Scope::Labels { labels: labels(&[("folder", "prod")]) });
    assert!(folder.may(Permission::VmPower, vm(1, &prod)));
    assert!(!folder.may(Permission::VmPower, vm(1, &test)));
    assert!(!folder.may(Permission::VmPower, vm(1, &none)));
    assert!(!folder.may(Permission::VmRead, vm(1, &prod)));
    assert!(
        !on(Scope::Labels { labels: none.clone() }).may(Permission::VmPower, vm(1, &none)),
        "no label is no scope"
    );
    let one = on(Scope::Object { object: ObjectKind::Vm, id: Uuid::from_u128(1) });
    assert!(one.may(Permission::VmPower, vm(1, &none)));
    assert!(!one.may(Permission::VmPower, vm(2, &none)));
    let image = Object::Of { kind: ObjectKind::Image, id: Uuid::from_u128(1), labels: &none };
    assert!(!one.may(Permission::VmPower, image));
    assert!(!Rights::none().somewhere(Permission::VmRead));
    assert!(Permission::ALL.iter().all(|p| Rights::all().may(*p, Object::Cluster)));
}

struct Log {
    state: State,
    revision: u64,
}

impl Log {
    fn new() -> Self {
        let mut log = Self { state: State::new(), revision: 0 };
        log.ok(set_up());
        log
    }
    fn at(&mut self, second: i64, op: Op) -> Outcome {
        self.revision += 1;
        let before = self.state.clone();
        let mut changes: Vec<Change> = Vec::new();
        let command = Command { at: Timestamp::from_second(second).unwrap(), op };
        let outcome = self.state.apply(self.revision, &command, &mut changes);
        if outcome.is_err() {
            assert_eq!(self.state, before, "a refusal changed something");
            assert!(changes.is_empty());
        }
        outcome
    }
    fn apply(&mut self, op: Op) -> Outcome {
        self.at(1000, op)
    }
    fn ok(&mut self, op: Op) -> Reply {
        self.apply(op).unwrap()
    }
}

fn set_up() -> Op {
    Op::SetPassword { hash: "h".into(), only_first: true, user: FIRST_USER, must_change: false, keep: None }
}

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

fn group(n: u128) -> GroupId {
    GroupId(Uuid::from_u128(n))
}

fn administrator() -> Grant {
    Grant { role: ADMINISTRATOR, scope: Scope::Cluster }
}

fn new_user(name: &str, grants: Vec<Grant>) -> NewUser {
    NewUser {
        name: name.into(),
        labels: BTreeMap::new(),
        spec: UserSpec { grants, ..UserSpec::default() },
        source: UserSource::Local,
        external: None,
        password: Some("h".into()),
        must_change_password: false,
    }
}

fn create(n: u128, grants: Vec<Grant>) -> Op {
    Op::CreateUser { id: user(n), new: new_user(&format!("u{n}"), grants) }
}

fn disable(id: UserId) -> Op {
    let spec = UserSpec { disabled: true, grants: vec![administrator()], ..UserSpec::default() };
    Op::UpdateUser { id, expect: None, update: UpdateUser { spec: Some(spec), ..UpdateUser::default() } }
}

fn strip(id: UserId) -> Op {
    let update = UpdateUser { spec: Some(UserSpec::default()), ..UpdateUser::default() };
    Op::UpdateUser { id, expect: None, update }
}

fn refused(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Refusal::Conflict(why)) if why.contains("nobody could administer"))
}

#[test]
fn the_last_administrator_stays() {
    let mut log = Log::new();
    for op in [disable(FIRST_USER), strip(FIRST_USER), Op::DeleteUser { id: FIRST_USER, expect: None }] {
        assert!(refused(&log.apply(op)));
    }
    assert!(log.apply(set_up()).is_err(), "set up twice");
    // One without a password, or with the role on less than the cluster, is none.
    let folder = Scope::Labels { labels: labels(&[("folder", "prod")]) };
    log.ok(create(
        2,
        vec![Grant { role: ADMINISTRATOR, scope: folder }, Grant { role: OPERATOR, scope: Scope::Cluster }],
    ));
    let mut nobody = new_user("nobody", vec![administrator()]);
    nobody.password = None;
    log.ok(Op::CreateUser { id: user(3), new: nobody });
    assert!(refused(&log.apply(disable(FIRST_USER))));
    // One by a group is; then the group holds on to its member.
    let spec = GroupSpec { members: [user(2)].into(), grants: vec![administrator()], ..GroupSpec::default() };
    let create = CreateGroup { name: "admins".into(), labels: BTreeMap::new(), spec };
    log.ok(Op::CreateGroup { id: group(1), create });
    log.ok(Op::DeleteUser { id: FIRST_USER, expect: None });
    let empty = UpdateGroup { spec: Some(GroupSpec::default()), ..UpdateGroup::default() };
    assert!(refused(&log.apply(Op::UpdateGroup { id: group(1), expect: None, update: empty })));
    assert!(refused(&log.apply(Op::DeleteGroup { id: group(1), expect: None })));
    assert!(refused(&log.apply(Op::DeleteUser { id: user(2), expect: None })));
    // Who has no password yet becomes one by getting it.
    let set = Op::SetPassword {
        hash: "x".into(),
        only_first: false,
        user: user(3),
        must_change: false,
        keep: None,
    };
    log.ok(set);
    log.ok(Op::DeleteGroup { id: group(1), expect: None });
}

#[test]
fn what_a_user_had_goes_with_them() {
    let mut log = Log::new();
    log.ok(create(2, vec![]));
    let spec = GroupSpec { members: [user(2), FIRST_USER].into(), ..GroupSpec::default() };
    log.ok(Op::CreateGroup {
        id: group(1),
        create: CreateGroup { name: "g".into(), labels: BTreeMap::new(), spec },
    });
    log.ok(session(7, user(2), 2000, None));
    let token = Token {
        id: TokenId::new(),
        name: "t".into(),
        created_at: Timestamp::UNIX_EPOCH,
        expires_at: None,
        read_only: false,
        owner: user(2),
        limit: None,
        pinned: None,
    };
    log.ok(Op::CreateToken { token: token.clone(), hash: "00".into() });
    // What is taken by disabling does not come back.
    let enabled = |disabled| Op::UpdateUser {
        id: user(2),
        expect: None,
        update: UpdateUser {
            spec: Some(UserSpec { disabled, ..UserSpec::default() }),
            ..UpdateUser::default()
        },
    };
    log.ok(enabled(true));
    assert!(log.apply(Op::CreateToken { token: token.clone(), hash: "00".into() }).is_err());
    log.ok(enabled(false));
    assert!(log.state.sessions.is_empty() && log.state.tokens.is_empty());
    log.ok(session(7, user(2), 2000, None));
    log.ok(Op::CreateToken { token, hash: "00".into() });
    let filter = lq_api::settings::SavedFilter { list: "/vms".into(), name: "n".into(), query: "q".into() };
    let keep = |id, expect, filters| Op::SetUserSettings { user: user(id), expect, filters };
    log.ok(keep(2, Some(0), vec![filter.clone()]));
    let revision = log.state.settings[&user(2)].revision;
    assert!(log.apply(keep(2, Some(0), vec![])).is_err(), "it was changed elsewhere");
    log.ok(keep(2, Some(revision), vec![filter.clone(), filter.clone()]));
    assert!(log.apply(keep(9, None, vec![filter])).is_err(), "there is no such user");
    log.ok(Op::DeleteUser { id: user(2), expect: None });
    assert!(log.state.sessions.is_empty() && log.state.tokens.is_empty());
    assert!(log.state.settings.is_empty(), "what they kept goes with them");
    assert_eq!(log.state.groups[&group(1)].spec.members, [FIRST_USER].into());
    assert_eq!(log.state.rights_of(user(2)), Rights::none());
}

#[test]
fn roles_that_are_held_or_built_in_stay() {
    let mut log = Log::new();
    let id = RoleId(Uuid::from_u128(9));
    let spec = RoleSpec { description: String::new(), permissions: [Permission::VmRead].into() };
    let create_role = |name: &str| Op::CreateRole {
        id,
        create: CreateRole { name: name.into(), labels: BTreeMap::new(), spec: spec.clone() },
    };
    assert!(log.apply(create_role("auditor")).is_err(), "the name of a built-in one");
    log.ok(create_role("reader"));
    log.ok(create(2, vec![Grant { role: id, scope: Scope::Cluster }]));
    assert!(log.state.rights_of(user(2)).may(Permission::VmRead, Object::Cluster));
    assert!(matches!(log.apply(Op::DeleteRole { id, expect: None }), Err(Refusal::Conflict(_))));
    assert!(matches!(log.apply(Op::DeleteRole { id: OPERATOR, expect: None }), Err(Refusal::Conflict(_))));
    log.ok(strip(user(2)));
    log.ok(Op::DeleteRole { id, expect: None });
    assert!(
        log.apply(create(3, vec![Grant { role: id, scope: Scope::Cluster }])).is_err(),
        "a role that is gone"
    );
}

fn session(n: u128, of: UserId, expires: i64, factor: Option<Factor>) -> Op {
    let at = Timestamp::from_second(1000).unwrap();
    let session = SessionRecord {
        id: SessionId(Uuid::from_u128(n)),
        user: of,
        created_at: at,
        refreshed_at: at,
        expires_at: Timestamp::from_second(expires).unwrap(),
        from: "192.0.2.1".into(),
        generation: 0,
    };
    Op::BeginSession { session, factor }
}

#[test]
fn a_refresh_token_counts_once() {
    let mut log = Log::new();
    log.ok(session(7, FIRST_USER, 2000, None));
    let id = SessionId(Uuid::from_u128(7));
    let refresh =
        |generation| Op::RefreshSession { id, generation, expires_at: Timestamp::from_second(3000).unwrap() };
    let next = |generation| Ok(Reply::Refreshed { generation });
    assert_eq!(log.at(1100, refresh(0)), next(Some(1)));
    assert_eq!(log.at(1120, refresh(0)), next(None), "crossed each other");
    assert_eq!(log.at(1130, refresh(1)), next(Some(2)));
    assert!(log.at(1130, refresh(9)).is_err(), "of the future");
    assert_eq!(log.at(1200, refresh(1)), Ok(Reply::Reused));
    assert!(log.at(1201, refresh(2)).is_err(), "ended by the reuse");
    log.ok(session(8, FIRST_USER, 2000, None));
    let late = Op::RefreshSession {
        id: SessionId(Uuid::from_u128(8)),
        generation: 0,
        expires_at: Timestamp::from_second(9000).unwrap(),
    };
    assert!(log.at(2000, late).is_err(), "ended unused");
}

#[test]
fn sessions_are_bounded_and_end_with_the_password_and_the_user() {
    let mut log = Log::new();
    for n in 0..60 {
        log.ok(session(100 + n, FIRST_USER, 2000, None));
    }
    assert_eq!(log.state.sessions.len(), 50);
    let keep = SessionId(Uuid::from_u128(159));
    let set = |keep| Op::SetPassword {
        hash: "x".into(),
        only_first: false,
        user: FIRST_USER,
        must_change: true,
        keep,
    };
    log.ok(set(Some(keep)));
    assert_eq!(log.state.sessions.keys().copied().collect::<Vec<_>>(), [keep]);
    log.ok(set(None));
    assert!(log.state.sessions.is_empty());
    log.ok(create(2, vec![administrator()]));
    log.ok(session(7, user(2), 2000, None));
    log.ok(disable(user(2)));
    assert!(log.state.sessions.is_empty());
    assert!(log.apply(session(8, user(2), 2000, None)).is_err());
    assert_eq!(log.state.rights_of(user(2)), Rights::none());
}

#[test]
fn codes_count_once() {
    let mut log = Log::new();
    let change = |change| Op::ChangeTotp { id: FIRST_USER, change };
    let confirm = |secret: &str| TotpChange::Confirm {
        secret: secret.into(),
        step: 40,
        recovery: vec!["r1".into(), "r2".into()],
    };
    assert!(log.apply(change(confirm("s"))).is_err(), "nothing was offered");
    log.ok(change(TotpChange::Offer { secret: "s".into() }));
    log.ok(session(1, FIRST_USER, 2000, None));
    assert!(log.apply(change(confirm("other"))).is_err());
    log.ok(change(confirm("s")));
    assert!(log.apply(change(TotpChange::Offer { secret: "t".into() })).is_err());
    let mut login = |n, factor| log.apply(session(n, FIRST_USER, 2000, factor)).is_ok();
    assert!(!login(2, None));
    assert!(!login(3, Some(Factor::Step(40))), "it confirmed the secret");
    assert!(login(4, Some(Factor::Step(41))));
    assert!(!login(5, Some(Factor::Step(41))));
    assert!(!login(6, Some(Factor::Step(40))));
    assert!(login(7, Some(Factor::Recovery("r1".into()))));
    assert!(!login(8, Some(Factor::Recovery("r1".into()))));
    assert!(login(9, Some(Factor::Recovery("r2".into()))));
    log.ok(change(TotpChange::Remove));
    log.ok(session(10, FIRST_USER, 2000, None));
}

#[test]
fn the_first_signing_key_wins() {
    let mut log = Log::new();
    let set = |n, replaces: Option<u128>| Op::SetSigningKey {
        id: Uuid::from_u128(n),
        secret: "x".into(),
        replaces: replaces.map(Uuid::from_u128),
    };
    log.ok(set(1, None));
    log.ok(set(2, None));
    let ids =
        |s: &State| [&s.signing.current, &s.signing.previous].map(|k| k.as_ref().map(|k| k.id.as_u128()));
    assert_eq!(ids(&log.state), [Some(1), None]);
    log.ok(set(3, Some(1)));
    log.ok(set(4, Some(1)));
    assert_eq!(ids(&log.state), [Some(3), Some(1)]);
}

fn some_op() -> impl Strategy<Value = Op> {
    let users = || prop_oneof![Just(FIRST_USER), (2u128..4).prop_map(user)];
    let some_grants = || {
        let grant = prop_oneof![
            Just(administrator()),
            Just(Grant { role: OPERATOR, scope: Scope::Cluster }),
            scope().prop_map(|scope| Grant { role: ADMINISTRATOR, scope }),
        ];
        prop::collection::vec(grant, 0..2)
    };
    let spec = (some_grants(), any::<bool>()).prop_map(|(grants, disabled)| UserSpec {
        grants,
        disabled,
        ..UserSpec::default()
    });
    let group_spec = (prop::collection::btree_set(users(), 0..3), some_grants())
        .prop_map(|(members, grants)| GroupSpec { members, grants, ..GroupSpec::default() });
    prop_oneof![
        (2u128..4, some_grants()).prop_map(|(n, grants)| create(n, grants)),
        (users(), spec).prop_map(|(id, spec)| Op::UpdateUser {
            id,
            expect: None,
            update: UpdateUser { spec: Some(spec), ..UpdateUser::default() }
        }),
        users().prop_map(|id| Op::DeleteUser { id, expect: None }),
        (1u128..3, group_spec.clone()).prop_map(|(n, spec)| Op::CreateGroup {
            id: group(n),
            create: CreateGroup { name: format!("g{n}"), labels: BTreeMap::new(), spec }
        }),
        (1u128..3, group_spec).prop_map(|(n, spec)| Op::UpdateGroup {
            id: group(n),
            expect: None,
            update: UpdateGroup { spec: Some(spec), ..UpdateGroup::default() }
        }),
        (1u128..3).prop_map(|n| Op::DeleteGroup { id: group(n), expect: None }),
        (1u128..9, users()).prop_map(|(n, of)| session(n, of, 2000, None)),
    ]
}

proptest! {
    /// Whatever is asked: an administrator is left, nothing belongs to users who are gone, refusals change nothing.
    #[test]
    fn the_invariants_hold(ops in prop::collection::vec(some_op(), 0..40)) {
        let mut log = Log::new();
        for op in ops {
            let _ = log.apply(op);
            let state = &log.state;
            prop_assert!(state.has_administrator());
            prop_assert!(state.sessions.values().all(|s| state.users.contains_key(&s.user)));
            prop_assert!(state.groups.values().all(|g| g.spec.members.iter().all(|m| state.users.contains_key(m))));
        }
    }
}
