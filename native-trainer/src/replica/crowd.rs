//! Who waits at a worker's door, and who makes room there.
//!
//! Guests wait in two groups: those who have said nothing yet, and those who have begun to speak. In each group, where
//! more wait than may, the network from which most of them come loses the one that has waited longest. So strangers of one
//! network, however fast they come, push each other out and nobody of another network; and whoever connects and says
//! nothing pushes out nobody who speaks.

use std::net::{IpAddr, Ipv6Addr};

/// Guests of one group.
pub(super) const MOST: usize = 16;
/// Bits of an IPv6 address that one household or machine may choose freely.
const OWN_BITS: u32 = 64;

/// See the [module](self); `S` is what is closed of a guest who makes room.
#[derive(Debug)]
pub(super) struct Crowd<S> {
    silent: Vec<Guest<S>>,
    speaking: Vec<Guest<S>>,
}

#[derive(Debug)]
struct Guest<S> {
    number: u64,
    network: IpAddr,
    stream: S,
}

impl<S> Default for Crowd<S> {
    fn default() -> Self {
        Self { silent: Vec::new(), speaking: Vec::new() }
    }
}

impl<S> Crowd<S> {
    /// A guest waits from now on; who makes room for it, if anybody has to.
    pub(super) fn come(&mut self, number: u64, address: IpAddr, stream: S) -> Option<S> {
        self.silent.push(Guest { number, network: network(address), stream });
        pushed_out(&mut self.silent)
    }

    /// A guest has begun to speak; who makes room for it, if anybody has to.
    pub(super) fn speak(&mut self, number: u64) -> Option<S> {
        let place = self.silent.iter().position(|guest| guest.number == number)?;
        self.speaking.push(self.silent.remove(place));
        pushed_out(&mut self.speaking)
    }

    /// A guest waits no more.
    pub(super) fn leave(&mut self, number: u64) {
        self.silent.retain(|guest| guest.number != number);
        self.speaking.retain(|guest| guest.number != number);
    }
}

fn pushed_out<S>(guests: &mut Vec<Guest<S>>) -> Option<S> {
    if guests.len() <= MOST {
        return None;
    }
    let of_network =
        |guest: &Guest<S>| guests.iter().filter(|other| other.network == guest.network).count();
    let most = guests.iter().map(of_network).max()?;
    let place = guests.iter().position(|guest| of_network(guest) == most)?;
    Some(guests.remove(place).stream)
}

/// What addresses of one place have in common.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() >> OWN_BITS << OWN_BITS).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_flood_of_one_network_pushes_out_nobody_of_another() {
        let mut crowd = Crowd::default();
        assert_eq!(crowd.come(0, address("192.0.2.7"), 0), None);
        crowd.speak(0);
        assert_eq!(crowd.come(1, address("192.0.2.8"), 1), None);
        for number in 2..5_000 {
            // The same network by IPv6, whichever address it takes.
            let from = address(&format!("2001:db8::{number:x}"));
            for out in [crowd.come(number, from, number), crowd.speak(number)] {
                assert!(out.is_none_or(|out| out > 1 && out < number), "{out:?}");
            }
        }
        assert_eq!(crowd.silent.len(), 1);
        assert_eq!(crowd.speaking.len(), MOST);
        // Nor does one that was let in come back into the crowd.
        crowd.leave(0);
        assert_eq!(crowd.speak(0), None);
    }

    #[test]
    fn the_silent_push_out_nobody_who_speaks_even_from_the_same_place() {
        let mut crowd = Crowd::default();
        let here = address("127.0.0.1");
        for number in 0..MOST as u64 {
            assert_eq!((crowd.come(number, here, number), crowd.speak(number)), (None, None));
        }
        for number in 100..1_000 {
            let out = crowd.come(number, here, number);
            assert_eq!(out, (number >= 100 + MOST as u64).then(|| number - MOST as u64));
        }
        // One more that speaks takes the place of the one that has spoken for longest.
        assert_eq!(crowd.speak(999), Some(0));
    }

    #[test]
    fn addresses_of_one_place_are_one_network() {
        for (one, other, is_same) in [
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ] {
            assert_eq!(network(address(one)) == network(address(other)), is_same, "{one} {other}");
        }
    }
}
