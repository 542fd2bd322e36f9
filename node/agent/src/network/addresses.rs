//! Which addresses of the bridge's subnet are taken. Pure: the journal says what to reserve.
//!
//! Addresses are given out in a circle, so that one just given back is not reused at once: peers
//! may still remember the old container behind it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network; its first address is the bridge's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    network: u32,
    prefix: u8,
}

impl Subnet {
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.network + 1)
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX << (32 - self.prefix);
        u32::from(address) & mask == self.network
    }

    /// Addresses for containers: without network, gateway and broadcast.
    fn host_count(self) -> u32 {
        (1u32 << (32 - self.prefix)) - 3
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.network), self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "bridge subnet {text:?}: allowed is an IPv4 network with a prefix of 8 to 29, \
                 such as 10.88.1.0/24"
            )
        };
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        if !(8..=29).contains(&prefix) {
            return Err(bad());
        }
        let mask = u32::MAX << (32 - prefix);
        if u32::from(address) & !mask != 0 {
            return Err(bad());
        }
        Ok(Self { network: u32::from(address), prefix })
    }
}

/// The taken ones.
#[derive(Clone, Debug)]
pub struct Addresses {
    subnet: Subnet,
    taken: BTreeSet<u32>,
    /// Offset of the address to try next.
    next: u32,
}

impl Addresses {
    pub fn new(subnet: Subnet) -> Self {
        Self { subnet, taken: BTreeSet::new(), next: 0 }
    }

    pub fn reserve(&mut self, address: Ipv4Addr) {
        self.taken.insert(u32::from(address));
    }

    /// A free address, or none.
    pub fn take(&mut self) -> Option<Ipv4Addr> {
        let count = self.subnet.host_count();
        for step in 0..count {
            let offset = (self.next + step) % count;
            let address = self.subnet.network + 2 + offset;
            if self.taken.insert(address) {
                self.next = (offset + 1) % count;
                return Some(Ipv4Addr::from(address));
            }
        }
        None
    }

    pub fn give_back(&mut self, address: Ipv4Addr) {
        self.taken.remove(&u32::from(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_checked() {
        let subnet: Subnet = "10.88.1.0/24".parse().unwrap();
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 88, 1, 1));
        assert!(subnet.contains(Ipv4Addr::new(10, 88, 1, 200)));
        assert!(!subnet.contains(Ipv4Addr::new(10, 88, 2, 1)));
        for bad in ["", "10.0.0.0", "10.0.0.1/24", "10.0.0.0/30", "10.0.0.0/7", "::/64"] {
            assert!(bad.parse::<Subnet>().unwrap_err().contains("10.88.1.0/24"), "{bad}");
        }
    }

    #[test]
    fn addresses_go_round_before_they_are_reused_and_run_out() {
        let mut addresses = Addresses::new("10.0.0.0/29".parse().unwrap());
        addresses.reserve(Ipv4Addr::new(10, 0, 0, 3));
        let given: Vec<_> =
            std::iter::from_fn(|| addresses.take()).map(|a| a.octets()[3]).collect();
        assert_eq!(given, [2, 4, 5, 6]);
        let mut others = Addresses::new("10.0.0.0/29".parse().unwrap());
        let first = others.take().unwrap();
        others.give_back(first);
        assert_ne!(others.take(), Some(first), "it was in use a moment ago");
        addresses.give_back(Ipv4Addr::new(10, 0, 0, 4));
        addresses.give_back(Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(10, 0, 0, 4)));
        assert_eq!(addresses.take(), None);
    }
}
