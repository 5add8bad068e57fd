//! One virtual CPU on its own thread: enters the guest, answers its exits, obeys the gate.

use crate::{
    gate::{Gate, KickTarget, Order, Seat},
    guest::{GuestEvent, Notifier},
    legacy::{Devices, Next},
    machine::{
        cpu_state::PowerOn,
        save::Mailbox,
        vcpu_state::{Offers, VcpuState},
    },
};
use kvm_bindings::{CpuId, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN};
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Whether a virtual CPU is there for the guest. One that is not stays out of it until it comes; it is not at first.
#[derive(Debug, Default)]
pub struct Standing {
    present: AtomicBool,
    /// It begins anew with its next order.
    anew: AtomicBool,
}

impl Standing {
    /// It is there or not from its next order on; one that comes begins as at power-on. False: it was so already.
    pub fn set(&self, present: bool) -> bool {
        let changed = self.present.swap(present, Ordering::SeqCst) != present;
        if changed && present {
            self.anew.store(true, Ordering::SeqCst);
        }
        changed
    }

    /// As [`Standing::set`], of one whose state comes from elsewhere: it does not begin anew.
    pub fn load(&self, present: bool) {
        self.present.store(present, Ordering::SeqCst);
        self.anew.store(false, Ordering::SeqCst);
    }
}

/// A virtual CPU and what its exits reach.
pub struct Vcpu {
    id: u8,
    fd: VcpuFd,
    leaves: CpuId,
    power_on: PowerOn,
    offers: Offers,
    mailbox: Arc<Mutex<Mailbox>>,
    devices: Arc<Devices>,
    notifier: Arc<Notifier>,
    gate: Arc<Gate>,
    exits: Arc<AtomicU64>,
    standing: Arc<Standing>,
    /// It asked for a reset or the end, and has not been answered: its state says nothing of that.
    unanswered: bool,
}

/// How running the guest went on.
enum Step {
    Run,
    /// Something was reported that the control thread answers with an order.
    Wait,
}

impl Vcpu {
    /// Number `id` (0 boots), with its `leaves` and the state it had at power-on. Its exits reach `devices`, are counted in
    /// `exits`, and what ends or restarts the machine goes to `notifier`. Led by `gate`; `mailbox` is where its state is
    /// put and found.
    #[expect(clippy::too_many_arguments, reason = "a vCPU is where everything meets")]
    #[must_use]
    pub fn new(
        id: u8,
        fd: VcpuFd,
        leaves: CpuId,
        power_on: PowerOn,
        offers: Offers,
        mailbox: Arc<Mutex<Mailbox>>,
        devices: Arc<Devices>,
        notifier: Arc<Notifier>,
        gate: Arc<Gate>,
        exits: Arc<AtomicU64>,
        standing: Arc<Standing>,
    ) -> Self {
        let unanswered = false;
        Self {
            id,
            fd,
            leaves,
            power_on,
            offers,
            mailbox,
            devices,
            notifier,
            gate,
            exits,
            standing,
            unanswered,
        }
    }

    /// The thread's life.
    pub fn run(mut self) {
        // SAFETY: the byte lies in the mapping that `self.fd` holds; `kick` is dropped first, at the end of this
        // function.
        let kick = unsafe { KickTarget::new(&raw mut self.fd.get_kvm_run().immediate_exit) };
        let gate = Arc::clone(&self.gate);
        let mut seat = gate.join();
        let mut order = seat.wait();
        loop {
            order = match order {
                Order::Park => {
                    self.begin_anew();
                    seat.done();
                    seat.wait()
                }
                Order::Reset(entry) => {
                    self.unanswered = false;
                    let entry = (self.id == 0).then_some(entry);
                    if let Err(error) = self.power_on.write(&self.fd, entry) {
                        self.notifier.send(GuestEvent::Host(format!("vCPU {}: {error}", self.id)));
                    }
                    seat.done();
                    seat.wait()
                }
                Order::Save => {
                    self.save();
                    seat.done();
                    seat.wait()
                }
                Order::Load => {
                    self.load();
                    seat.done();
                    seat.wait()
                }
                Order::Run => {
                    self.unanswered = false;
                    self.begin_anew();
                    // The guest's watchdogs learn that it stood still; refused where it does not use this clock.
                    let _ = self.fd.kvmclock_ctrl();
                    seat.done();
                    self.run_guest(&mut seat)
                }
                Order::Quit => break,
            };
        }
        drop(kick);
        seat.done();
    }

    /// Takes the state of power-on, where it has just come. Also one that was just made needs that: KVM finds it by the number
    /// of its local APIC only once that has been set.
    fn begin_anew(&self) {
        if self.standing.anew.swap(false, Ordering::SeqCst)
            && let Err(error) = self.power_on.write(&self.fd, None)
        {
            self.notifier.send(GuestEvent::Host(format!("vCPU {}: {error}", self.id)));
        }
    }

    fn save(&mut self) {
        let found = if self.unanswered {
            Mailbox::Failed("the guest is just being reset or switched off; try again".to_owned())
        } else {
            match VcpuState::read(&self.fd, self.offers, &self.leaves, &self.power_on.msr_indices()) {
                Ok(state) => Mailbox::State(Box::new(state)),
                Err(error) => Mailbox::Failed(format!("vCPU {}: {error}", self.id)),
            }
        };
        *self.mailbox() = found;
    }

    fn load(&mut self) {
        let Mailbox::State(state) = std::mem::take(&mut *self.mailbox()) else { return };
        match state.write(&self.fd, self.offers) {
            Ok(leaves) => self.leaves = leaves,
            Err(error) => *self.mailbox() = Mailbox::Failed(format!("vCPU {}: {error}", self.id)),
        }
    }

    fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the guest until there is a new order.
    fn run_guest(&mut self, seat: &mut Seat<'_>) -> Order {
        loop {
            self.fd.set_kvm_immediate_exit(0);
            seat.rest();
            if let Some(order) = seat.look() {
                self.finish_exit();
                return order;
            }
            if !self.standing.present.load(Ordering::SeqCst) {
                self.finish_exit();
                return seat.wait();
            }
            match self.step() {
                Step::Run => {}
                Step::Wait => {
                    self.unanswered = true;
                    let order = seat.wait();
                    self.finish_exit();
                    return order;
                }
            }
        }
    }

    /// Lets KVM complete an access whose answer it has not taken yet, without entering the guest: otherwise registers
    /// read or written now would miss it.
    fn finish_exit(&mut self) {
        self.fd.set_kvm_immediate_exit(1);
        // Always ends with EINTR.
        let _ = self.fd.run();
        self.fd.set_kvm_immediate_exit(0);
    }

    fn step(&mut self) -> Step {
        let exit = match self.fd.run() {
            Ok(exit) => exit,
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => return Step::Run,
            Err(error) => return self.fault(GuestEvent::Host(format!("KVM cannot run it: {error}"))),
        };
        self.exits.fetch_add(1, Ordering::Relaxed);
        match exit {
            VcpuExit::IoIn(port, data) => self.devices.port_read(port, data),
            VcpuExit::IoOut(port, data) => {
                if self.devices.port_write(port, data) == Next::Wait {
                    return Step::Wait;
                }
            }
            VcpuExit::MmioRead(address, data) => self.devices.memory_read(address, data),
            VcpuExit::MmioWrite(address, data) => self.devices.memory_write(address, data),
            // A triple fault: what resets a PC.
            VcpuExit::Shutdown | VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => {
                self.notifier.send(GuestEvent::Reset);
                return Step::Wait;
            }
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => {
                self.notifier.send(GuestEvent::PowerOff);
                return Step::Wait;
            }
            VcpuExit::Intr | VcpuExit::Hlt => {}
            VcpuExit::InternalError => {
                let event = GuestEvent::Fault("KVM cannot emulate what the guest does".to_owned());
                return self.fault(event);
            }
            VcpuExit::FailEntry(reason, cpu) => {
                let detail = format!("the processor refused to enter the guest: {reason:#x} on CPU {cpu}");
                return self.fault(GuestEvent::Fault(detail));
            }
            other => {
                let event = GuestEvent::Fault(format!("an exit nobody handles: {other:?}"));
                return self.fault(event);
            }
        }
        Step::Run
    }

    fn fault(&self, event: GuestEvent) -> Step {
        let place = self.fd.get_regs().map_or_else(|_| String::new(), |r| format!(" at {:#x}", r.rip));
        let at = |detail| format!("vCPU {}{place}: {detail}", self.id);
        self.notifier.send(match event {
            GuestEvent::Fault(detail) => GuestEvent::Fault(at(detail)),
            GuestEvent::Host(detail) => GuestEvent::Host(at(detail)),
            other => other,
        });
        Step::Wait
    }
}
