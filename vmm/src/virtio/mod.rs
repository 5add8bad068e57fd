//! virtio: queues, the PCI transport, and the devices on it.
