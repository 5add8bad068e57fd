//! Metrics in Prometheus' text form. Counters are counted as things happen, gauges read when someone asks.

use crate::inventory;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{sync::Mutex, time::Duration};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labelled {
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InPool {
    pool: String,
}

/// The daemon's metrics.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Request, Counter>,
    latency: Histogram,
    vms: Family<Labelled, Gauge>,
    objects: Family<Labelled, Gauge>,
    revision: Gauge,
    running_tasks: Gauge,
    sessions: Gauge,
    pool_capacity: Family<InPool, Gauge>,
    pool_free: Family<InPool, Gauge>,
    memory: Gauge,
}

/// Values read when someone asks.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Machines by state.
    pub vms: Vec<(String, i64)>,
    /// Objects by kind.
    pub objects: Vec<(String, i64)>,
    /// Log position applied.
    pub revision: i64,
    /// Tasks under way.
    pub running_tasks: i64,
    /// Sessions.
    pub sessions: i64,
    /// Name, capacity and free bytes of the pools of this host.
    pub pools: Vec<(String, i64, i64)>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("lq");
        let requests = Family::<Request, Counter>::default();
        let latency = Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]);
        let vms = Family::<Labelled, Gauge>::default();
        let objects = Family::<Labelled, Gauge>::default();
        let (revision, running_tasks, sessions) = (Gauge::default(), Gauge::default(), Gauge::default());
        let (pool_capacity, pool_free) =
            (Family::<InPool, Gauge>::default(), Family::<InPool, Gauge>::default());
        let memory = Gauge::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register_with_unit("http_request", "Time to answer", Unit::Seconds, latency.clone());
        registry.register("vms", "Virtual machines by state", vms.clone());
        registry.register("objects", "Objects by kind", objects.clone());
        registry.register("revision", "Position of the cluster's log applied", revision.clone());
        registry.register("tasks_running", "Tasks under way", running_tasks.clone());
        registry.register("sessions", "Sessions", sessions.clone());
        registry.register_with_unit("pool_capacity", "Size of a pool", Unit::Bytes, pool_capacity.clone());
        registry.register_with_unit("pool_free", "Room in a pool", Unit::Bytes, pool_free.clone());
        registry.register_with_unit("resident_memory", "Memory of the daemon", Unit::Bytes, memory.clone());
        Self {
            registry: Mutex::new(registry),
            requests,
            latency,
            vms,
            objects,
            revision,
            running_tasks,
            sessions,
            pool_capacity,
            pool_free,
            memory,
        }
    }
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self, method: &str, status: u16, took: Duration) {
        // An unknown method is counted as one kind: the client must not be able to make series.
        let method = match method {
            m @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => m,
            _ => "other",
        };
        self.requests.get_or_create(&Request { method: method.into(), status }).inc();
        self.latency.observe(took.as_secs_f64());
    }

    /// Everything in text form, with the present gauges.
    pub fn render(&self, now: Gauges) -> Result<String, std::fmt::Error> {
        self.vms.clear();
        for (state, n) in now.vms {
            self.vms.get_or_create(&Labelled { state }).set(n);
        }
        self.objects.clear();
        for (state, n) in now.objects {
            self.objects.get_or_create(&Labelled { state }).set(n);
        }
        self.revision.set(now.revision);
        self.running_tasks.set(now.running_tasks);
        self.sessions.set(now.sessions);
        for (pool, capacity, free) in now.pools {
            self.pool_capacity.get_or_create(&InPool { pool: pool.clone() }).set(capacity);
            self.pool_free.get_or_create(&InPool { pool }).set(free);
        }
        let memory = inventory::resident_bytes(std::process::id());
        self.memory.set(memory.and_then(|n| n.try_into().ok()).unwrap_or_default());
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        encode(&mut text, &registry)?;
        Ok(text)
    }
}
