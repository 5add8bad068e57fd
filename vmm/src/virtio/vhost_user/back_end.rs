//! A back end as the device knows it: what was agreed with it at the begin, and the requests by which queues are started and
//! stopped.
//!
//! ```text
//!  greet: SET_OWNER, GET_FEATURES, GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM [, GET_CONFIG]
//!  start: SET_FEATURES [, SET_MEM_TABLE once], then of each queue SET_VRING_NUM, _ADDR, _BASE, _CALL, _KICK, _ENABLE
//!  stop:  GET_VRING_BASE of each queue
//! ```
//! Addresses of rings are said as the guest knows them, and the table of memory says the same: where the guest's memory lies in the
//! monitor is no back end's business.

use super::channel::{Channel, Error};
use crate::{
    memory::{self, Memory},
    virtio::F_VERSION_1,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use vhost::vhost_user::{
    VhostUserProtocolFeatures as Protocol, VhostUserVirtioFeatures,
    message::{
        FrontendReq, VhostUserConfig, VhostUserConfigFlags, VhostUserMemory, VhostUserMemoryRegion,
        VhostUserVringAddr, VhostUserVringAddrFlags, VhostUserVringState,
    },
};
use virtio_queue::QueueState;
use vm_memory::{Address, ByteValued, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

/// The feature by which both know that there are protocol features. No driver sees it.
const F_PROTOCOL: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
/// Most regions every back end takes.
const MOST_REGIONS: usize = 8;

/// A queue to be started.
pub(super) struct Ring<'a> {
    pub(super) index: u16,
    pub(super) state: QueueState,
    /// Written to by the back end: the driver wants to know.
    pub(super) call: &'a EventFd,
    /// The driver's doorbell.
    pub(super) kick: &'a EventFd,
}

/// A back end that was greeted.
#[derive(Debug)]
pub(super) struct BackEnd {
    channel: Channel,
    features: u64,
    /// Queues it serves; none: it does not say, and serves what such a device has at least.
    queues: Option<u64>,
    configured: bool,
    /// It has the guest's memory.
    has_memory: bool,
}

impl BackEnd {
    /// Agrees with the program at the other end of `channel`.
    pub(super) fn greet(mut channel: Channel) -> Result<Self, Error> {
        channel.tell(FrontendReq::SET_OWNER, &[], &[])?;
        let features: u64 = channel.ask(FrontendReq::GET_FEATURES, &[])?;
        if features & F_VERSION_1 == 0 || features & F_PROTOCOL == 0 {
            return Err(Error::Unsuitable(format!(
                "it is too old: it offers the features {features:#x}, virtio 1 (bit 32) and protocol features (bit 30) are needed"
            )));
        }
        let offered: u64 = channel.ask(FrontendReq::GET_PROTOCOL_FEATURES, &[])?;
        let wanted = Protocol::MQ | Protocol::REPLY_ACK | Protocol::CONFIG;
        let agreed = Protocol::from_bits_truncate(offered) & wanted;
        channel.tell(FrontendReq::SET_PROTOCOL_FEATURES, agreed.bits().as_slice(), &[])?;
        if agreed.contains(Protocol::REPLY_ACK) {
            channel.confirm();
        }
        let several = agreed.contains(Protocol::MQ);
        let queues = several.then(|| channel.ask(FrontendReq::GET_QUEUE_NUM, &[])).transpose()?;
        let configured = agreed.contains(Protocol::CONFIG);
        Ok(Self { channel, features, queues, configured, has_memory: false })
    }

    /// What it offers a driver.
    pub(super) fn features(&self) -> u64 {
        self.features & !F_PROTOCOL
    }

    /// Refuses one that does not serve `wanted` queues of a device that has at least `least`.
    pub(super) fn check_queues(&self, wanted: usize, least: usize) -> Result<(), Error> {
        let serves = self.queues.unwrap_or(least as u64);
        if serves >= wanted as u64 {
            return Ok(());
        }
        Err(Error::Unsuitable(format!("it serves {serves} queues, {wanted} are needed")))
    }

    /// The first `length` bytes of the device's configuration.
    pub(super) fn config(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        const REQUEST: FrontendReq = FrontendReq::GET_CONFIG;
        const HEAD: usize = size_of::<VhostUserConfig>();
        if !self.configured {
            return Err(Error::Unsuitable("it does not tell the device's configuration".to_owned()));
        }
        let head = VhostUserConfig::new(0, length as u32, VhostUserConfigFlags::empty());
        let body = [head.as_slice(), &vec![0; length]].concat();
        let answer = self.channel.ask_bytes(REQUEST, &body, HEAD + length)?;
        // What it says of offset and length; its flags mean nothing here.
        if answer.get(..8) != head.as_slice().get(..8) {
            return Err(Error::Answer {
                request: REQUEST,
                problem: "another part than was asked for".into(),
            });
        }
        Ok(answer.get(HEAD..).unwrap_or_default().to_vec())
    }

    /// Has it serve `rings` in `memory` for a driver that accepted `features`.
    pub(super) fn start(&mut self, memory: &Memory, features: u64, rings: &[Ring<'_>]) -> Result<(), Error> {
        self.channel.renew();
        // Some features are the device's own.
        let features = features & self.features | F_PROTOCOL;
        self.channel.tell(FrontendReq::SET_FEATURES, features.as_slice(), &[])?;
        if !self.has_memory {
            self.give_memory(memory)?;
            self.has_memory = true;
        }
        for ring in rings {
            self.set_up(ring)?;
        }
        for ring in rings {
            self.tell_state(FrontendReq::SET_VRING_ENABLE, ring.index, 1)?;
        }
        Ok(())
    }

    fn give_memory(&mut self, memory: &Memory) -> Result<(), Error> {
        let mut files = Vec::new();
        let mut body = Vec::new();
        for region in memory.iter() {
            let file = memory::file_of(region)
                .ok_or_else(|| Error::Unsuitable("the guest's memory cannot be shared".to_owned()))?;
            let (base, offset) = (region.start_addr().raw_value(), 0);
            body.extend(VhostUserMemoryRegion::new(base, region.len(), base, offset).as_slice());
            files.push(file.as_fd());
        }
        if files.len() > MOST_REGIONS {
            return Err(Error::Unsuitable(format!("the guest's memory is in {} parts", files.len())));
        }
        let head = VhostUserMemory::new(files.len() as u32);
        let body = [head.as_slice(), &body].concat();
        self.channel.tell(FrontendReq::SET_MEM_TABLE, &body, &files)
    }

    fn set_up(&mut self, ring: &Ring<'_>) -> Result<(), Error> {
        let Ring { index, state, call, kick } = ring;
        self.tell_state(FrontendReq::SET_VRING_NUM, *index, state.size)?;
        let addresses = VhostUserVringAddr::new(
            (*index).into(),
            VhostUserVringAddrFlags::empty(),
            state.desc_table,
            state.used_ring,
            state.avail_ring,
            0,
        );
        self.channel.tell(FrontendReq::SET_VRING_ADDR, addresses.as_slice(), &[])?;
        self.tell_state(FrontendReq::SET_VRING_BASE, *index, state.next_avail)?;
        for (request, event) in [(FrontendReq::SET_VRING_CALL, call), (FrontendReq::SET_VRING_KICK, kick)] {
            // SAFETY: the event lives longer than the call.
            let event = unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) };
            self.channel.tell(request, u64::from(*index).as_slice(), &[event])?;
        }
        Ok(())
    }

    fn tell_state(&mut self, request: FrontendReq, index: u16, value: u16) -> Result<(), Error> {
        self.channel.tell(request, VhostUserVringState::new(index.into(), value.into()).as_slice(), &[])
    }

    /// Has it finish what is under way in the queues of these numbers and stop; returns where each would go on.
    pub(super) fn stop(
        &mut self,
        queues: impl Iterator<Item = Option<u16>>,
    ) -> Result<Vec<Option<u16>>, Error> {
        self.channel.renew();
        queues.map(|index| index.map(|index| self.stop_one(index)).transpose()).collect()
    }

    fn stop_one(&mut self, index: u16) -> Result<u16, Error> {
        const REQUEST: FrontendReq = FrontendReq::GET_VRING_BASE;
        let body = VhostUserVringState::new(index.into(), 0);
        let VhostUserVringState { index: of, num: base } = self.channel.ask(REQUEST, body.as_slice())?;
        match u16::try_from(base) {
            Ok(base) if of == u32::from(index) => Ok(base),
            _ => Err(Error::Answer { request: REQUEST, problem: format!("{base:#x} of queue {of}") }),
        }
    }
}

impl AsRawFd for BackEnd {
    fn as_raw_fd(&self) -> RawFd {
        self.channel.as_raw_fd()
    }
}
