//! The objects behind documents: what there is, by name; making and changing it.

use super::{
    super::Session,
    document::{Difference, Document, Kind, Target, describe, visit},
};
use lq_api::{
    Bytes,
    access::{CreateGroup, CreateRole, GroupSpec, RoleSpec, UpdateGroup, UpdateRole},
    client::{Client, Resource},
    host::Host,
    image::Image,
    meta::MetadataPatch,
    network::{CreateNetwork, NetworkSpec, UpdateNetwork},
    pool::{CreatePool, PoolSpec},
    problem::FieldError,
    vm::{CreateVm, PowerState, UpdateVm, VmSpec, VmState},
    volume::{CreateVolume, VolumeSpec},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
};
use uuid::Uuid;

/// An object that is.
#[derive(Clone, Debug)]
pub(super) struct Present {
    pub(super) id: String,
    revision: Option<u64>,
    pub(super) labels: Value,
    pub(super) spec: Value,
    /// It comes with the product, or belongs to a host: it is not described.
    fixed: bool,
}

/// What there is, and what is being made.
#[derive(Default)]
pub(super) struct Names {
    objects: BTreeMap<Kind, BTreeMap<String, Present>>,
    /// Ids by name of what can be referred to.
    ids: BTreeMap<Target, BTreeMap<String, String>>,
    /// What documents make, and does not exist yet.
    coming: BTreeSet<(Kind, String)>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn objects<T: Resource + Serialize>(client: &Client) -> anyhow::Result<Vec<Value>> {
    let all: Vec<T> = client.all().await?;
    Ok(all.iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
}

async fn ids<T: Resource + Serialize>(client: &Client) -> anyhow::Result<BTreeMap<String, String>> {
    let all = objects::<T>(client).await?;
    Ok(all.iter().map(|o| (text(&o["meta"]["name"]), text(&o["meta"]["id"]))).collect())
}

impl Names {
    /// All that documents of these kinds are about or can refer to.
    pub(super) async fn load(client: &Client, documents: &[Document]) -> anyhow::Result<Self> {
        let kinds: BTreeSet<Kind> = documents.iter().map(|d| d.kind).collect();
        let mut names = Self::of(client, &kinds).await?;
        let coming = documents.iter().filter(|d| names.present(d.kind, &d.name).is_none());
        names.coming = coming.map(|d| (d.kind, d.name.clone())).collect();
        Ok(names)
    }

    /// All of every kind.
    pub(super) async fn load_all(client: &Client) -> anyhow::Result<Self> {
        Self::of(client, &Kind::ALL.into()).await
    }

    async fn of(client: &Client, kinds: &BTreeSet<Kind>) -> anyhow::Result<Self> {
        let referred = kinds.iter().flat_map(|k| k.references().iter().map(|(_, target)| *target));
        let targets: BTreeSet<Target> = referred.collect();
        let mut names = Self::default();
        for kind in Kind::ALL {
            if kinds.contains(&kind) || targets.contains(&Target::Of(kind)) {
                names.read(kind, client).await?;
            }
        }
        for target in targets {
            let found = match target {
                Target::Of(_) => continue,
                Target::Image => ids::<Image>(client).await?,
                Target::Host => ids::<Host>(client).await?,
                Target::User => ids::<lq_api::access::User>(client).await?,
            };
            names.ids.insert(target, found);
        }
        Ok(names)
    }

    async fn read(&mut self, kind: Kind, client: &Client) -> anyhow::Result<()> {
        let all = match kind {
            Kind::Role => objects::<lq_api::access::Role>(client).await?,
            Kind::Group => objects::<lq_api::access::Group>(client).await?,
            Kind::Network => objects::<lq_api::network::Network>(client).await?,
            Kind::Pool => objects::<lq_api::pool::Pool>(client).await?,
            Kind::Volume => objects::<lq_api::volume::Volume>(client).await?,
            Kind::Vm => objects::<lq_api::vm::Vm>(client).await?,
        };
        let (present, by_name) =
            (self.objects.entry(kind).or_default(), self.ids.entry(Target::Of(kind)).or_default());
        for object in all {
            let meta = &object["meta"];
            let (name, id) = (text(&meta["name"]), text(&meta["id"]));
            let mut spec = object["spec"].clone();
            if kind == Kind::Volume {
                // A clone has the size of its image, which its spec does not tell.
                spec["size_bytes"] = object["status"]["size_bytes"].clone();
            }
            let labels = meta.get("labels").cloned().unwrap_or_else(|| Value::Object(Map::new()));
            let fixed = object["builtin"] == true || (kind == Kind::Pool && spec["driver"] == "dir");
            by_name.insert(name.clone(), id.clone());
            present.insert(name, Present { id, revision: meta["revision"].as_u64(), labels, spec, fixed });
        }
        Ok(())
    }

    /// The object of this name.
    pub(super) fn present(&self, kind: Kind, name: &str) -> Option<&Present> {
        self.objects.get(&kind)?.get(name)
    }

    /// A document was made true.
    pub(super) fn made(&mut self, document: &Document, id: String) {
        self.coming.remove(&(document.kind, document.name.clone()));
        self.ids.entry(Target::Of(document.kind)).or_default().insert(document.name.clone(), id);
    }

    /// The spec with ids in place of names; what is still to be made is nobody.
    pub(super) fn resolved(&self, document: &Document) -> anyhow::Result<Value> {
        let mut spec = document.spec.clone();
        for (place, target) in document.kind.references() {
            visit(&mut spec, place, "spec", &mut |field, name| {
                if let Some(id) = self.ids.get(target).and_then(|ids| ids.get(name)) {
                    name.clone_from(id);
                    return Ok(());
                }
                if let Target::Of(kind) = target
                    && self.coming.contains(&(*kind, name.clone()))
                {
                    *name = Uuid::nil().to_string();
                    return Ok(());
                }
                // An id; whether there is such an object is the host's to say.
                if name.parse::<Uuid>().is_ok() {
                    return Ok(());
                }
                Err(document.fault(field, format!("there is no {target} `{name}`")))
            })?;
        }
        Ok(spec)
    }

    fn name_of(&self, target: Target, id: &str) -> Option<&str> {
        let ids = self.ids.get(&target)?;
        ids.iter().find(|(_, known)| *known == id).map(|(name, _)| name.as_str())
    }

    /// A spec with names in place of ids.
    fn with_names(&self, kind: Kind, mut spec: Value) -> Value {
        for (place, target) in kind.references() {
            let done: Result<(), Infallible> = visit(&mut spec, place, "spec", &mut |_, id| {
                if let Some(name) = self.name_of(*target, id) {
                    *id = name.to_owned();
                }
                Ok(())
            });
            let Ok(()) = done;
        }
        spec
    }

    /// A difference as people read it.
    pub(super) fn named(&self, kind: Kind, difference: Difference) -> Difference {
        let nil = Uuid::nil().to_string();
        let all: BTreeSet<Target> = kind.references().iter().map(|(_, target)| *target).collect();
        let named = |value: Value| match &value {
            Value::String(id) if *id == nil => "what is still to be made".into(),
            Value::String(id) if id.parse::<Uuid>().is_ok() => {
                all.iter().find_map(|t| self.name_of(*t, id)).map_or(value.clone(), Value::from)
            }
            _ => value,
        };
        Difference { field: difference.field, from: named(difference.from), to: named(difference.to) }
    }

    /// Documents of what is: all of a kind, or only these.
    pub(super) fn described(&self, kind: Kind, only: &[String]) -> Vec<Value> {
        let all = self.objects.get(&kind).into_iter().flatten();
        let wanted = all.filter(|(name, o)| if only.is_empty() { !o.fixed } else { only.contains(name) });
        wanted
            .map(|(name, o)| describe(kind, name, &o.labels, self.with_names(kind, o.spec.clone())))
            .collect()
    }
}

fn parsed<T: DeserializeOwned>(document: &Document, value: &Value) -> anyhow::Result<T> {
    serde_path_to_error::deserialize(value.clone()).map_err(|e| {
        let field = e.path().to_string();
        document.fault(if field == "." { "spec" } else { &field }, e.inner())
    })
}

fn checked(document: &Document, errors: Vec<FieldError>) -> anyhow::Result<()> {
    match errors.first() {
        Some(error) => Err(document.fault(&error.field, &error.reason)),
        None => Ok(()),
    }
}

/// A spec as the host tells it: sets in their order, so that what is the same looks the same.
pub(super) fn as_told(document: &Document, spec: &Value) -> anyhow::Result<Value> {
    #[derive(Serialize, Deserialize)]
    struct Whole<T> {
        spec: T,
    }
    fn told<T: DeserializeOwned + Serialize>(document: &Document, spec: &Value) -> anyhow::Result<Value> {
        let whole: Whole<T> = parsed(document, &serde_json::json!({ "spec": spec }))?;
        Ok(serde_json::to_value(whole.spec)?)
    }
    match document.kind {
        Kind::Role => told::<RoleSpec>(document, spec),
        Kind::Group => told::<GroupSpec>(document, spec),
        Kind::Network => told::<NetworkSpec>(document, spec),
        Kind::Pool => told::<PoolSpec>(document, spec),
        Kind::Volume => told::<VolumeSpec>(document, spec),
        Kind::Vm => told::<VmSpec>(document, spec),
    }
}

/// Refuses what the host would refuse for its form.
pub(super) fn check_new(document: &Document, body: &Value) -> anyhow::Result<()> {
    match document.kind {
        Kind::Role => checked(document, parsed::<CreateRole>(document, body)?.spec.validate()),
        Kind::Group => checked(document, parsed::<CreateGroup>(document, body)?.spec.validate()),
        Kind::Network => parsed::<CreateNetwork>(document, body).map(drop),
        Kind::Pool => parsed::<CreatePool>(document, body).map(drop),
        Kind::Volume => parsed::<CreateVolume>(document, body).map(drop),
        Kind::Vm => checked(document, parsed::<CreateVm>(document, body)?.validate()),
    }
}

/// Refuses a change of what cannot be changed.
pub(super) fn check_change(document: &Document, spec: &Value, changes: &[Difference]) -> anyhow::Result<()> {
    let refused = |d: &&Difference| match document.kind {
        Kind::Pool => d.field.starts_with("spec"),
        Kind::Volume => d.field.starts_with("spec") && d.field != "spec.size_bytes",
        _ => false,
    };
    if let Some(change) = changes.iter().find(refused) {
        let why = format!("cannot be changed any more ({} → {})", change.from, change.to);
        return Err(document.fault(&change.field, why));
    }
    if let Some(change) = changes.iter().find(|d| d.field == "spec.size_bytes")
        && change.to.as_u64() < change.from.as_u64()
    {
        let why = format!("a volume can only grow: it has {} bytes", change.from);
        return Err(document.fault(&change.field, why));
    }
    check_new(document, &serde_json::json!({"name": document.name, "spec": spec}))
}

/// Makes an object; answers with its id.
pub(super) async fn create(session: &Session, kind: Kind, body: Value) -> anyhow::Result<String> {
    let client = &session.client;
    Ok(match kind {
        Kind::Role => client.create_role(&serde_json::from_value(body)?).await?.meta.id.to_string(),
        Kind::Group => client.create_group(&serde_json::from_value(body)?).await?.meta.id.to_string(),
        Kind::Network => client.create_network(&serde_json::from_value(body)?).await?.meta.id.to_string(),
        Kind::Pool => client.create_pool(&serde_json::from_value(body)?).await?.meta.id.to_string(),
        Kind::Volume => {
            let id = client.create_volume(&serde_json::from_value(body)?).await?.meta.id;
            if let Some(wait) = session.wait {
                client.wait_volume(id, wait).await?;
            }
            id.to_string()
        }
        Kind::Vm => {
            let vm = client.create_vm(&serde_json::from_value(body)?).await?;
            settled(session, vm.meta.id, vm.spec.power).await?;
            vm.meta.id.to_string()
        }
    })
}

/// Waits until a machine is as it is wanted.
async fn settled(session: &Session, id: lq_api::VmId, power: PowerState) -> anyhow::Result<()> {
    let Some(wait) = session.wait else { return Ok(()) };
    let state = match power {
        PowerState::Stopped => VmState::Stopped,
        PowerState::Running => VmState::Running,
        PowerState::Paused => VmState::Paused,
    };
    session.client.wait_vm_state(id, state, wait).await?;
    Ok(())
}

/// Changes an object, if it is still as it was looked at.
pub(super) async fn change(
    session: &Session,
    document: &Document,
    present: &Present,
    spec: Value,
    changes: &[Difference],
) -> anyhow::Result<()> {
    let client = &session.client;
    let labels = match &document.labels {
        Some(labels) => Some(parsed(document, labels)?),
        None => None,
    };
    let of_spec = changes.iter().any(|d| d.field.starts_with("spec"));
    match document.kind {
        Kind::Role => {
            let update = UpdateRole { name: None, labels, spec: Some(parsed(document, &spec)?) };
            client.update_role(present.id.parse()?, &update, present.revision).await?;
        }
        Kind::Group => {
            let update = UpdateGroup { name: None, labels, spec: Some(parsed(document, &spec)?) };
            client.update_group(present.id.parse()?, &update, present.revision).await?;
        }
        Kind::Network => {
            let update = UpdateNetwork { name: None, labels, spec: Some(parsed(document, &spec)?) };
            client.update_network(present.id.parse()?, &update, present.revision).await?;
        }
        Kind::Pool => {
            let patch = MetadataPatch { name: None, labels };
            client.update_pool(present.id.parse()?, &patch, present.revision).await?;
        }
        Kind::Volume => {
            let id = present.id.parse()?;
            if labels.is_some() {
                client.update_volume(id, &MetadataPatch { name: None, labels }, present.revision).await?;
            }
            if of_spec && let Some(size) = spec["size_bytes"].as_u64() {
                session.follow(client.grow_volume(id, Bytes(size)).await?).await?;
            }
        }
        Kind::Vm => {
            let id = present.id.parse()?;
            let update = UpdateVm { name: None, labels, spec: Some(parsed(document, &spec)?) };
            let vm = client.update_vm(id, &update, present.revision).await?;
            if changes.iter().any(|d| d.field == "spec.power") {
                settled(session, id, vm.spec.power).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::document::read, *};
    use serde_json::json;

    #[test]
    fn what_is_the_same_in_another_order_is_the_same() {
        let text = "kind: role\nname: r\nspec: {permissions: [storage.read, vm.read, vm.read]}";
        let [role] = &read("f", text).unwrap()[..] else { unreachable!("it is one") };
        let told = json!({"description": "", "permissions": ["vm.read", "storage.read"]});
        assert_eq!(as_told(role, &role.spec).unwrap(), told);
        let wrong = as_told(role, &json!({"permissions": ["vm.fly"]})).unwrap_err().to_string();
        assert!(wrong.starts_with("f, document 1 (role r): spec.permissions[0]: "), "{wrong}");
    }
}
