//! Removing network interfaces, with one netlink message rather than a dependency on `ip`.

use std::fs;
use std::io;
use std::path::PathBuf;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};

const RTM_DELLINK: u16 = 17;
const NLM_F_REQUEST_ACK: u16 = 0x1 | 0x4;

fn sysfs(name: &str) -> PathBuf {
    PathBuf::from("/sys/class/net").join(name)
}

/// Whether an interface exists.
pub(super) fn exists(name: &str) -> bool {
    sysfs(name).exists()
}

/// The interfaces attached to a bridge.
pub(super) fn ports(bridge: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(sysfs(bridge).join("brif")) else { return Vec::new() };
    entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect()
}

/// Removes an interface.
pub(super) fn delete(name: &str) -> io::Result<()> {
    let index = fs::read_to_string(sysfs(name).join("ifindex"))?;
    let index: i32 = index.trim().parse().map_err(io::Error::other)?;
    // No protocol number is NETLINK_ROUTE.
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    // struct nlmsghdr, then struct ifinfomsg.
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&32u32.to_ne_bytes());
    message.extend_from_slice(&RTM_DELLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 12]);
    message.extend_from_slice(&index.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0u8; 1024];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    // struct nlmsgerr follows the header: 0 or a negative errno.
    match answer[..length].get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::Error::other("short netlink answer")),
    }
}
