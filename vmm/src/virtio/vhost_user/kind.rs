//! What the driver is told of a disk, an interface or a directory that a back end serves: features, queues, configuration.
//!
//! What a back end offers counts only as far as it is known here what it means, so that nothing is promised that the transport
//! does not keep. Of a disk the configuration is the back end's, of the others it is ours.

use super::{back_end::BackEnd, channel::Error};
use crate::virtio::{DeviceType, F_COMMON, F_VERSION_1};
use lq_api::local::vmm::{VhostUserBlock, VhostUserDevice, VhostUserFs, VhostUserNet};

const QUEUE_SIZE: u16 = 256;

/// Of a disk: most bytes and parts of a request, geometry, read-only, block size, flush, topology, discard, zeroes. Not that
/// its cache can be switched: nothing in its configuration can be written.
const BLOCK_FEATURES: u64 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 13 | 1 << 14;
/// Of a disk: several queues.
const BLOCK_MQ: u64 = 1 << 12;
/// Bytes of a disk's configuration (virtio 1.2, 5.2.4, up to what concerns zeroes).
const BLOCK_CONFIG: usize = 60;
/// Where in it the number of queues is.
const BLOCK_QUEUES: usize = 34;

/// Of an interface: checksums and large segments both ways, mergeable buffers.
const NET_FEATURES: u64 =
    1 | 1 << 1 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 15;
/// Of an interface, whatever its back end says: it has an address.
const NET_MAC: u64 = 1 << 5;

/// Bytes of the name a directory is mounted by.
pub(crate) const TAG: usize = 36;

/// What the driver is told.
pub(super) struct Facts {
    pub(super) kind: DeviceType,
    pub(super) features: u64,
    pub(super) queue_sizes: Vec<u16>,
    pub(super) config: Vec<u8>,
}

impl Facts {
    /// Of `device`, behind which `back_end` is.
    pub(super) fn of(device: &VhostUserDevice, back_end: &mut BackEnd) -> Result<Self, Error> {
        let offered = back_end.features();
        let (kind, queues, least, features) = match device {
            VhostUserDevice::Block(VhostUserBlock { queues }) => {
                let several = if *queues > 1 { BLOCK_MQ } else { 0 };
                (DeviceType::Block, usize::from(*queues), 1, offered & (BLOCK_FEATURES | several))
            }
            VhostUserDevice::Net(VhostUserNet { .. }) => {
                (DeviceType::Net, 2, 2, offered & NET_FEATURES | NET_MAC)
            }
            // The first is for what is urgent.
            VhostUserDevice::Fs(VhostUserFs { queues, .. }) => {
                (DeviceType::Fs, 1 + usize::from(*queues), 2, 0)
            }
        };
        back_end.check_queues(queues, least)?;
        let config = match device {
            VhostUserDevice::Block(VhostUserBlock { queues }) => {
                let mut config = back_end.config(BLOCK_CONFIG)?;
                let places = config.iter_mut().skip(BLOCK_QUEUES);
                places.zip(u16::from(*queues).to_le_bytes()).for_each(|(to, from)| *to = from);
                config
            }
            VhostUserDevice::Net(VhostUserNet { mac }) => mac.0.to_vec(),
            VhostUserDevice::Fs(VhostUserFs { tag, queues }) => {
                let mut config: Vec<u8> = tag.bytes().take(TAG).collect();
                config.resize(TAG, 0);
                config.extend(u32::from(*queues).to_le_bytes());
                config
            }
        };
        let features = features | offered & F_COMMON | F_VERSION_1;
        Ok(Self { kind, features, queue_sizes: vec![QUEUE_SIZE; queues], config })
    }
}
