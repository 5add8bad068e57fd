//! The screen of a machine: a framebuffer in guest memory, shown by RFB to whoever is connected.
//!
//! ```text
//!  firmware, guest ─▶ etc/ramfb (fw_cfg) ─▶ Screen: where and how large          keyboard ◀─ keys ─┐
//!        └─ draws ─▶ guest memory ─ compare with shadow, by tiles ─▶ Frame ─▶ rfb::Client ◀─ socket ┘
//! ```
//! One thread serves all viewers; while nobody is connected it sleeps and holds no copy of the screen. A viewer costs the
//! guest nothing but its share of the host: it is served at its own pace, and what it has not taken is made up for by a
//! later picture.
//!
//! Invariants: whatever the guest writes into `etc/ramfb`, only guest memory is read, and never more than
//! [`ramfb::MAX_BYTES`]; whatever a viewer sends or does not read, its buffers stay bounded, and at worst it is
//! disconnected.

pub mod frame;
pub mod keys;
pub mod pixels;
pub mod ramfb;
pub mod rfb;
pub mod server;
pub mod zrle;
