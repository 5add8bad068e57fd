//! What the processes of one host say to each other, and where they find each other.
//!
//! All local protocols are JSON, one message a line, over Unix stream sockets. Each carries its version in the first message.
//! Machines themselves go as [`frame`]s.

pub mod frame;
pub mod init;
pub mod install;
pub mod layout;
pub mod logs;
pub mod paths;
pub mod vmm;
