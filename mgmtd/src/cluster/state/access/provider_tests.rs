//! Users of identity providers: what counts of them, and for how long.

use super::super::{Change, Command, Op, Outcome, Refusal, Reply, State, command::NewUser};
use super::*;
use jiff::Timestamp;
use lq_api::{
    GroupId, ProviderId, SessionId,
    access::{CreateGroup, GroupSpec, OPERATOR, Permission, UpdateUser},
    provider::{CreateProvider, UpdateProvider},
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

const PROVIDER: ProviderId = ProviderId(Uuid::from_u128(7));
const OTHER: ProviderId = ProviderId(Uuid::from_u128(8));
const GROUP: GroupId = GroupId(Uuid::from_u128(9));

struct Bench {
    state: State,
    revision: u64,
}

fn create(name: &str, external: &str) -> CreateProvider {
    serde_json::from_value(json!({
        "name": name,
        "spec": {
            "groups": [{"external": external, "group": GROUP}],
            "source": {"kind": "ldap", "servers": ["ldaps://dc"], "base_dn": "dc=x", "bind_dn": "cn=s"},
        },
        "secret": "swordfish",
    }))
    .unwrap()
}

fn known(subject: &str, name: &str, groups: &[&str]) -> Known {
    Known {
        subject: subject.into(),
        name: name.into(),
        full_name: String::new(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
    }
}

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

impl Bench {
    /// A group of operators, and two providers of which the first maps its group `ops` to it.
    fn new() -> Self {
        let mut bench = Self { state: State::new(), revision: 0 };
        let grants = vec![Grant { role: OPERATOR, scope: Scope::Cluster }];
        let spec = GroupSpec { grants, ..GroupSpec::default() };
        let group = CreateGroup { name: "operators".into(), labels: BTreeMap::new(), spec };
        bench.done(Op::CreateGroup { id: GROUP, create: group });
        bench.done(Op::CreateProvider { id: PROVIDER, create: create("corp", "ops") });
        bench.done(Op::CreateProvider { id: OTHER, create: create("other", "ops") });
        bench
    }
    fn apply(&mut self, op: Op) -> Outcome {
        self.revision += 1;
        let mut changes: Vec<Change> = Vec::new();
        let command = Command { at: Timestamp::from_second(1_700_000_000).unwrap(), op };
        // What is stored is read again.
        let stored = serde_json::to_string(&command).unwrap();
        assert_eq!(serde_json::from_str::<Command>(&stored).unwrap(), command);
        self.state.apply(self.revision, &command, &mut changes)
    }
    fn done(&mut self, op: Op) -> Reply {
        self.apply(op).unwrap()
    }
    fn provision(&mut self, n: u128, provider: ProviderId, known: Known) -> Outcome {
        self.apply(Op::Provision { id: user(n), provider, known })
    }
    fn log_in(&mut self, n: u128) -> SessionId {
        let (id, at) = (SessionId::new(), Timestamp::from_second(1_700_000_000).unwrap());
        let session = SessionRecord {
            id,
            user: user(n),
            created_at: at,
            refreshed_at: at,
            expires_at: Timestamp::MAX,
            from: String::new(),
            generation: 0,
        };
        self.done(Op::BeginSession { session, factor: None });
        id
    }
    fn operates(&self, n: u128) -> bool {
        self.state.rights_of(user(n)).may(Permission::VmWrite, Object::Cluster)
    }
    fn observe(&mut self, n: u128, known: Option<Known>) {
        let seen = BTreeMap::from([(user(n), known)]);
        self.done(Op::ObserveProvider { id: PROVIDER, failure: None, seen });
    }
}

#[test]
fn groups_count_as_long_as_the_provider_says_so() {
    let mut bench = Bench::new();
    bench.provision(1, PROVIDER, known("s1", "eve", &["ops"])).unwrap();
    assert_eq!(bench.state.users[&user(1)].user.meta.name, "eve@corp");
    assert!(bench.operates(1) && !bench.state.has_administrator());
    let session = bench.log_in(1);
    bench.observe(1, Some(known("s1", "eve", &[])));
    assert!(!bench.operates(1) && bench.state.sessions.contains_key(&session));
    bench.observe(1, Some(known("s1", "eve", &["ops"])));
    assert!(bench.operates(1));
    // Its word is not another's.
    let seen = BTreeMap::from([(user(1), None)]);
    bench.done(Op::ObserveProvider { id: OTHER, failure: None, seen });
    assert!(bench.operates(1));
    // Someone else by the same name is not them.
    bench.observe(1, Some(known("s2", "eve", &["ops"])));
    assert!(!bench.operates(1) && bench.state.sessions.is_empty());
    assert!(bench.state.users[&user(1)].shown(&bench.state).status.gone);
    // They come back by logging in.
    bench.provision(2, PROVIDER, known("s1", "eve", &["ops"])).unwrap();
    assert!(bench.operates(1) && !bench.state.users.contains_key(&user(2)));
    // The mapping as it is now is what counts.
    let mut spec = bench.state.providers[&PROVIDER].spec.clone();
    spec.groups.clear();
    let update = UpdateProvider { spec: Some(spec.clone()), ..UpdateProvider::default() };
    bench.done(Op::UpdateProvider { id: PROVIDER, expect: None, update });
    assert!(!bench.operates(1));
    bench.log_in(1);
    spec.enabled = false;
    let update = UpdateProvider { spec: Some(spec), ..UpdateProvider::default() };
    bench.done(Op::UpdateProvider { id: PROVIDER, expect: None, update });
    assert!(bench.state.sessions.is_empty());
    assert!(matches!(bench.provision(3, PROVIDER, known("s1", "eve", &[])), Err(Refusal::Conflict(_))));
    bench.done(Op::DeleteProvider { id: PROVIDER, expect: None });
    assert!(bench.state.users.is_empty());
}

#[test]
fn names_of_a_realm_are_those_of_its_users_alone() {
    let mut bench = Bench::new();
    let local = |name: &str| NewUser {
        name: name.into(),
        labels: BTreeMap::new(),
        spec: lq_api::access::UserSpec::default(),
        source: lq_api::access::UserSource::Local,
        external: None,
        password: Some("h".into()),
        must_change_password: false,
    };
    for name in ["x@corp", "x@CORP", "@corp"] {
        let refused = bench.apply(Op::CreateUser { id: user(5), new: local(name) });
        assert!(matches!(refused, Err(Refusal::Validation(_))), "{name}");
    }
    bench.done(Op::CreateUser { id: user(5), new: local("x@elsewhere") });
    let name = Some("x@other".to_owned());
    let update = UpdateUser { name, ..UpdateUser::default() };
    assert!(bench.apply(Op::UpdateUser { id: user(5), expect: None, update }).is_err());
    let taken = Op::CreateProvider { id: ProviderId::new(), create: create("ELSEWHERE", "ops") };
    assert!(matches!(bench.apply(taken), Err(Refusal::Conflict(_))));
    let twice = Op::CreateProvider { id: ProviderId::new(), create: create("Corp", "ops") };
    assert!(matches!(bench.apply(twice), Err(Refusal::Conflict(_))));

    bench.provision(1, PROVIDER, known("s1", "eve", &["ops"])).unwrap();
    // A name that came to another person, in any letter case; the same person under another name.
    for name in ["eve", "EVE"] {
        assert!(matches!(
            bench.provision(2, PROVIDER, known("s2", name, &["ops"])),
            Err(Refusal::Conflict(_))
        ));
    }
    bench.provision(2, OTHER, known("s1", "eve", &["ops"])).unwrap();
    assert_eq!(bench.state.users[&user(2)].user.meta.name, "eve@other");
    bench.provision(3, PROVIDER, known("s1", "eva", &["ops"])).unwrap();
    assert_eq!(bench.state.users[&user(1)].user.meta.name, "eva@corp");
    for bad in ["", "a b", "a/b", &"a".repeat(60)] {
        assert!(bench.provision(4, PROVIDER, known("s4", bad, &["ops"])).is_err(), "{bad}");
    }
    let update = UpdateUser { name: Some("eve".into()), ..UpdateUser::default() };
    assert!(bench.apply(Op::UpdateUser { id: user(1), expect: None, update }).is_err());
    let password = Op::SetPassword {
        hash: "h".into(),
        only_first: false,
        user: user(1),
        must_change: false,
        keep: None,
    };
    assert!(matches!(bench.apply(password), Err(Refusal::Conflict(_))));
    assert!(matches!(bench.apply(Op::DeleteGroup { id: GROUP, expect: None }), Err(Refusal::Conflict(_))));
    let groups: BTreeSet<GroupId> = bench.state.groups_of(user(1)).map(|g| g.meta.id).collect();
    assert_eq!(groups, BTreeSet::from([GROUP]));
}

#[test]
fn a_secret_is_told_to_nobody_and_stays_with_its_server() {
    let mut bench = Bench::new();
    let shown =
        |state: &State| serde_json::to_string(&state.show_provider(&state.providers[&PROVIDER])).unwrap();
    assert!(!shown(&bench.state).contains("swordfish"));
    assert!(!format!("{:?} {:?}", bench.state.providers[&PROVIDER], create("x", "y")).contains("swordfish"));
    let mut spec = bench.state.providers[&PROVIDER].spec.clone();
    let lq_api::provider::ProviderSource::Ldap(source) = &mut spec.source else { unreachable!("it is one") };
    source.servers = vec!["ldaps://evil".into()];
    let update = |secret: Option<&str>| Op::UpdateProvider {
        id: PROVIDER,
        expect: None,
        update: UpdateProvider { labels: None, spec: Some(spec.clone()), secret: secret.map(str::to_owned) },
    };
    assert!(matches!(bench.apply(update(None)), Err(Refusal::Validation(_))));
    bench.done(update(Some("again")));
    assert_eq!(bench.state.providers[&PROVIDER].secret.as_deref(), Some("again"));
    // Without a password the service account would be nobody.
    assert!(matches!(bench.apply(update(Some(""))), Err(Refusal::Validation(_))));
}
