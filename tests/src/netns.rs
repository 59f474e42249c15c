//! Machines that are none: network namespaces on one bridge, whose links can be cut.
//!
//! A link is cut by telling one namespace a hardware address that nobody has for the other: what
//! is sent there is lost in silence, in this direction alone. The test itself reaches all of
//! them by the bridge, whatever is cut. Needs root and the program `ip`; see [`Net::new`].

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A hardware address that no link has.
const NOWHERE: &str = "02:00:00:00:00:01";
/// Namespaces of one net.
const COUNT_MAX: usize = 9;

/// Some namespaces that reach one another; gone after the drop.
#[derive(Debug)]
pub struct Net {
    /// Begins the names of all that is made.
    name: String,
    subnet: [u8; 3],
    count: usize,
}

fn ip(args: &[&str]) -> Result<(), String> {
    let told = |text: String| format!("ip {}: {}", args.join(" "), text.trim());
    let done = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let done = done.map_err(|error| told(error.to_string()))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(told(String::from_utf8_lossy(&done.stderr).into_owned())),
    }
}

impl Net {
    /// Makes `count` namespaces.
    ///
    /// # Errors
    /// Why this machine does not allow it, for whoever then tests less.
    ///
    /// # Panics
    /// For more than nine.
    pub fn new(count: usize) -> Result<Self, String> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        assert!(count <= COUNT_MAX, "a net of {count}");
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        // Names of links have at most 15 letters.
        let name = format!("hf{}x{serial}", std::process::id() % 1_000_000);
        let unique = std::process::id().wrapping_mul(31).wrapping_add(serial);
        let subnet = [10, 100 + (unique >> 8) as u8 % 100, unique as u8];
        let net = Self { name, subnet, count };
        // What was made before something failed goes with the drop.
        net.make()?;
        Ok(net)
    }

    fn make(&self) -> Result<(), String> {
        let bridge = self.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", self.addr_of(254)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for place in 0..self.count {
            let (space, link) = (self.space(place), format!("{}v{place}", self.name));
            ip(&["netns", "add", &space])?;
            let pair = ["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns"];
            ip(&[&pair[..], &[&space]].concat())?;
            ip(&["link", "set", &link, "master", &bridge, "up"])?;
            let addr = format!("{}/24", self.addr(place));
            ip(&["-n", &space, "addr", "add", &addr, "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("{}b", self.name)
    }

    fn space(&self, place: usize) -> String {
        format!("{}n{place}", self.name)
    }

    fn addr_of(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, last)
    }

    /// The address of a namespace.
    #[must_use]
    pub fn addr(&self, place: usize) -> Ipv4Addr {
        self.addr_of(place as u8 + 1)
    }

    /// What a command line begins with that is to run in a namespace.
    #[must_use]
    pub fn prefix(&self, place: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.space(place)].map(str::to_owned).to_vec()
    }

    /// Loses what one sends to another.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn cut(&self, from: usize, to: usize) {
        let addr = self.addr(to).to_string();
        let args =
            ["neigh", "replace", &addr, "lladdr", NOWHERE, "nud", "permanent", "dev", "eth0"];
        ip(&[&["-n", &self.space(from)][..], &args].concat()).expect("cutting a link");
    }

    /// Mends every link.
    pub fn heal(&self) {
        for from in 0..self.count {
            for to in (0..self.count).filter(|to| *to != from) {
                let addr = self.addr(to).to_string();
                // One that was not cut has nothing to forget.
                let _ = ip(&["-n", &self.space(from), "neigh", "del", &addr, "dev", "eth0"]);
            }
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for place in 0..self.count {
            let _ = ip(&["link", "del", &format!("{}v{place}", self.name)]);
            let _ = ip(&["netns", "del", &self.space(place)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}
