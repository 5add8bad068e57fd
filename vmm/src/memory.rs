//! Guest memory, as every part of the monitor sees it.

use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

/// The guest's memory regions.
pub type Memory = GuestMemoryMmap<()>;
/// Shared handle to [`Memory`]; cheap to clone, replaced as a whole when regions change.
pub type SharedMemory = GuestMemoryAtomic<Memory>;
