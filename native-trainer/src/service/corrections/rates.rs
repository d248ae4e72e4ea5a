//! How many corrections may come, from one address and from all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Corrections of one address, and of all, that may come at once, and that may come a minute.
const OF_ONE: Rate = Rate { at_once: 10.0, a_minute: 10.0 };
pub(super) const OF_ALL: Rate = Rate { at_once: 120.0, a_minute: 120.0 };
/// Addresses that are counted at a time.
const ADDRESSES: usize = 4096;

/// How much may come: so many at once, and so many a minute from then on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) at_once: f64,
    pub(super) a_minute: f64,
}

/// What is left of a rate.
#[derive(Debug, Clone, Copy)]
struct Left {
    count: f64,
    seen: Instant,
}

impl Rate {
    /// What is left now, of a rate that was looked at before.
    fn left(self, before: Option<Left>, now: Instant) -> f64 {
        let Some(Left { count, seen }) = before else { return self.at_once };
        let minutes = now.saturating_duration_since(seen).as_secs_f64() / 60.0;
        (count + minutes * self.a_minute).min(self.at_once)
    }

    /// How long it takes until one more may come.
    fn wait(self, left: f64) -> Duration {
        Duration::from_secs_f64((1.0 - left).max(0.0) * 60.0 / self.a_minute)
    }
}

/// What has come from where.
#[derive(Default)]
pub(super) struct Rates {
    all: Option<Left>,
    addresses: HashMap<IpAddr, Left>,
}

impl Rates {
    /// Takes one of all, and one of an address, unless there is none.
    pub(super) fn admit(&mut self, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let all = OF_ALL.left(self.all, now);
        let wait = self.check(from, now).err().unwrap_or_default().max(OF_ALL.wait(all));
        if !wait.is_zero() {
            return Err(wait);
        }
        self.all = Some(Left { count: all - 1.0, seen: now });
        self.take(from, now);
        Ok(())
    }

    /// Whether one may come from an address.
    pub(super) fn check(&self, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let Some(from) = from else { return Ok(()) };
        let wait = OF_ONE.wait(OF_ONE.left(self.addresses.get(&from).copied(), now));
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// One has come from an address.
    pub(super) fn take(&mut self, from: Option<IpAddr>, now: Instant) {
        let Some(from) = from else { return };
        let left = OF_ONE.left(self.addresses.get(&from).copied(), now);
        if self.addresses.len() >= ADDRESSES {
            // Who has been still for long may send as much as a stranger.
            self.addresses.retain(|_, left| OF_ONE.left(Some(*left), now) < OF_ONE.at_once);
        }
        self.addresses.insert(from, Left { count: left - 1.0, seen: now });
    }

    /// One that was taken has not come.
    pub(super) fn give_back(&mut self, from: Option<IpAddr>) {
        if let Some(left) = from.and_then(|from| self.addresses.get_mut(&from)) {
            left.count += 1.0;
        }
    }
}

/// Whom an address stands for: of IPv6 a household has a network of 64 bits.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_sends_a_few_and_all_send_no_flood() {
        let begin = Instant::now();
        let address = |text: &str| Some(network(text.parse().unwrap()));
        let mut rates = Rates::default();
        let mut taken = |from, seconds| {
            let now = begin + Duration::from_secs(seconds);
            (0..500).take_while(|_| rates.admit(from, now).is_ok()).count()
        };
        assert_eq!(taken(address("192.0.2.1"), 0), 10);
        assert_eq!(taken(address("192.0.2.1"), 30), 5);
        assert_eq!(taken(address("2001:db8::1"), 30), 10);
        assert_eq!(taken(address("2001:db8::2"), 30), 0, "of the same network");
        assert_eq!(taken(address("2001:db8:1::1"), 30), 10);
        assert_eq!(taken(None, 3600), 120);
        assert_eq!(taken(address("192.0.2.9"), 3600), 0);
        let wait = rates.admit(address("192.0.2.9"), begin + Duration::from_hours(1));
        assert_eq!(wait.unwrap_err(), Duration::from_millis(500));
    }
}
