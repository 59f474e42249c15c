//! The server clock: the time by which keys expire.
//!
//! It starts at wall time, advances with `CLOCK_BOOTTIME` (which counts suspended time and is
//! never set) and slews toward wall time by at most [`SLEW_PPM_MAX`]. So a jump of the wall
//! clock neither frees a lock early nor keeps one for hours: an offset of one second is made up
//! in about half an hour. A server with a journal goes on with its clock when it starts again in the
//! same boot, see [`kept`]. Relative TTLs are durations on this clock; EXPIREAT compares with it unconverted.
//!
//! [`SlewClock`] is the arithmetic, fed with readings; [`Clock`] reads the clocks of this
//! machine. Between readings, 10 ms apart, it extrapolates with the CPU's time stamp
//! counter, so a counter that misbehaves (suspend, migration) misleads by that much at most.
//!
//! Invariant: what `now_ms` returns never decreases, across all threads, except by
//! [`Clock::step_to_wall`], for which nothing may count time by this clock.

pub mod kept;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kept::Moment;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

/// How far the clock's rate departs from the boot clock's, in parts per million: what NTP allows
/// itself, and far below what a lock's safety margin must cover for drift anyway.
pub const SLEW_PPM_MAX: i64 = 500;

/// An offset is made up over this time where the rate allows, so that the clock comes to rest
/// on wall time rather than swing around it.
const SLEW_HORIZON_NS: i64 = 10 * SECOND_NS;

/// How long the CPU's counter is trusted between two readings of the system's clocks.
const REFRESH_NS: u64 = 10_000_000;

/// A pair of readings is taken again if more than this passed between them.
const READING_NS_MAX: u64 = 20_000;

const SECOND_NS: i64 = 1_000_000_000;
const PPM: i128 = 1_000_000;

/// A clock that follows wall time without jumping, as a function of readings.
///
/// Times are in nanoseconds: `boot` since boot, `wall` since 1970.
#[derive(Debug, Clone)]
pub struct SlewClock {
    boot: i64,
    now: i64,
    rate_ppm: i64,
    offset: i64,
}

impl SlewClock {
    /// A clock that starts at wall time.
    #[must_use]
    pub fn new(boot: i64, wall: i64) -> Self {
        Self { boot, now: wall, rate_ppm: 0, offset: 0 }
    }

    /// The time at `boot`; a reading before the last one gives the time of the last one.
    #[must_use]
    pub fn at(&self, boot: i64) -> i64 {
        let elapsed = i128::from(boot.saturating_sub(self.boot).max(0));
        // Never more than the offset: after a long time without readings it would overshoot.
        let offset = i128::from(self.offset.unsigned_abs());
        let correction = (elapsed * i128::from(self.rate_ppm) / PPM).clamp(-offset, offset);
        // Invariant: `slewed` is not negative, for the rate is above -1,000,000 ppm.
        let slewed = elapsed + correction;
        self.now.saturating_add(i64::try_from(slewed).unwrap_or(i64::MAX))
    }

    /// Takes a pair of readings and returns the time; from now on the clock slews toward `wall`.
    pub fn update(&mut self, boot: i64, wall: i64) -> i64 {
        self.now = self.at(boot);
        self.boot = self.boot.max(boot);
        self.offset = wall.saturating_sub(self.now);
        let wanted = i128::from(self.offset) * PPM / i128::from(SLEW_HORIZON_NS);
        let most = i128::from(SLEW_PPM_MAX);
        self.rate_ppm = wanted.clamp(-most, most) as i64;
        self.now
    }

    /// How far wall time was ahead of this clock at the last update.
    #[must_use]
    pub fn offset_ns(&self) -> i64 {
        self.offset
    }
}

/// The clock of this process; one is enough, and it is shared by reference.
#[derive(Debug)]
pub struct Clock {
    counter: quanta::Clock,
    /// The counter's reading at the start.
    origin: u64,
    slew: Mutex<SlewClock>,
    /// Server time less counter time, in nanoseconds, wrapping.
    base_ns: AtomicU64,
    /// Counter time of the last refresh.
    refreshed_ns: AtomicU64,
    /// The latest time handed out; on a line of its own, for every reader looks at it and it
    /// is written a thousand times a second.
    last_ms: Padded,
    /// It was set back: readers may still have written the time before into `last_ms`.
    set_back: AtomicBool,
}

#[derive(Debug)]
#[repr(align(128))]
struct Padded(AtomicU64);

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock that starts at wall time.
    #[must_use]
    pub fn new() -> Self {
        Self::going_on_from(None)
    }

    /// A clock that goes on from where another of this boot was; without one it starts at wall time.
    #[must_use]
    pub fn going_on_from(last: Option<Moment>) -> Self {
        let counter = quanta::Clock::new();
        let origin = counter.raw();
        let (_, boot, wall) = readings(|| counter.delta_as_nanos(origin, counter.raw()));
        let begin = last.map_or((boot, wall), |last| (last.boot_ns, last.clock_ns));
        let clock = Self {
            counter,
            origin,
            slew: Mutex::new(SlewClock::new(begin.0, begin.1)),
            base_ns: AtomicU64::new(0),
            refreshed_ns: AtomicU64::new(0),
            last_ms: Padded(AtomicU64::new(0)),
            set_back: AtomicBool::new(false),
        };
        clock.refresh();
        clock
    }

    /// Milliseconds since 1970 on the server clock.
    #[inline]
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let counted = self.counted_ns();
        // Wrapping: a counter that went backwards looks like one that is far ahead.
        if counted.wrapping_sub(self.refreshed_ns.load(Relaxed)) > REFRESH_NS {
            return self.refresh();
        }
        self.advance(counted.wrapping_add(self.base_ns.load(Relaxed)) / 1_000_000)
    }

    /// Microseconds since the clock was made, for durations only: nothing is corrected, and
    /// suspended time may or may not count.
    #[inline]
    #[must_use]
    pub fn monotonic_us(&self) -> u64 {
        self.counted_ns() / 1_000
    }

    /// As [`monotonic_us`](Self::monotonic_us), in nanoseconds.
    #[inline]
    #[must_use]
    pub fn monotonic_ns(&self) -> u64 {
        self.counted_ns()
    }

    /// Where this clock is.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let _ = self.refresh();
        let (slew, boot_ns) = (self.slew.lock(), boot_ns());
        Moment { boot_ns, clock_ns: slew.at(boot_ns) }
    }

    /// How far wall time is ahead of this clock, in milliseconds; for INFO and for a warning.
    #[must_use]
    pub fn wall_offset_ms(&self) -> i64 {
        let _ = self.refresh();
        self.slew.lock().offset_ns() / 1_000_000
    }

    /// Sets this clock to wall time and returns it, in milliseconds. To be called only while nothing
    /// counts time by this clock.
    pub fn step_to_wall(&self) -> u64 {
        let mut slew = self.slew.lock();
        let (counted, boot, wall) = readings(|| self.counted_ns());
        *slew = SlewClock::new(boot, wall);
        let now = u64::try_from(wall).unwrap_or(0);
        let now_ms = now / 1_000_000;
        self.set_back.store(self.last_ms.0.load(Relaxed) > now_ms, Relaxed);
        self.base_ns.store(now.wrapping_sub(counted), Relaxed);
        self.refreshed_ns.store(counted, Relaxed);
        self.last_ms.0.store(now_ms, Relaxed);
        now_ms
    }

    /// How long it takes this clock to reach wall time at the rate at which it slews, in seconds.
    #[must_use]
    pub fn slewed_in_s(offset_ms: i64) -> u64 {
        offset_ms.unsigned_abs().saturating_mul(1000) / SLEW_PPM_MAX.unsigned_abs()
    }

    #[inline]
    fn counted_ns(&self) -> u64 {
        self.counter.delta_as_nanos(self.origin, self.counter.raw())
    }

    #[cold]
    fn refresh(&self) -> u64 {
        let Some(mut slew) = self.slew.try_lock() else {
            // Another thread is at it, and may have lost the CPU: the counter goes on.
            let now = self.counted_ns().wrapping_add(self.base_ns.load(Relaxed));
            return self.advance(now / 1_000_000);
        };
        let (counted, boot, wall) = readings(|| self.counted_ns());
        let now = slew.update(boot, wall);
        let now = u64::try_from(now).unwrap_or(0);
        self.base_ns.store(now.wrapping_sub(counted), Relaxed);
        self.refreshed_ns.store(counted, Relaxed);
        let now_ms = now / 1_000_000;
        if self.set_back.load(Relaxed) {
            // A reader that was on its way wrote the time before the step: extrapolation alone is
            // never so far ahead.
            const AHEAD_MS_MAX: u64 = 1_000;
            let last = self.last_ms.0.load(Relaxed);
            if last > now_ms + AHEAD_MS_MAX {
                let _ = self.last_ms.0.compare_exchange(last, now_ms, Relaxed, Relaxed);
            }
        }
        self.advance(now_ms)
    }

    /// The later of `ms` and what any thread was given before.
    #[inline]
    fn advance(&self, ms: u64) -> u64 {
        let last = self.last_ms.0.load(Relaxed);
        if ms <= last {
            return last;
        }
        self.last_ms.0.fetch_max(ms, Relaxed).max(ms)
    }
}

/// The counter, the time since boot and wall time, read together.
fn readings(counted_ns: impl Fn() -> u64) -> (u64, i64, i64) {
    let mut counted = counted_ns();
    let (mut boot, mut wall) = (boot_ns(), wall_ns());
    // A thread that loses the CPU between two readings would pair readings apart.
    for _ in 0..5 {
        let after = counted_ns();
        if after.saturating_sub(counted) <= READING_NS_MAX {
            break;
        }
        counted = after;
        (boot, wall) = (boot_ns(), wall_ns());
    }
    (counted, boot, wall)
}

fn boot_ns() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec * SECOND_NS + time.tv_nsec
}

/// By the C library, not by rustix: there tests can set the clock of one process.
fn wall_ns() -> i64 {
    let ns = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => ns(since),
        Err(before) => -ns(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_NS: i64 = 3_600 * SECOND_NS;
    const WALL: i64 = 1_800_000_000 * SECOND_NS;

    /// One step of a simulation: time passes, the wall clock may be set.
    fn steps() -> impl Strategy<Value = Vec<(i64, i64)>> {
        let step = (0..10 * SECOND_NS, prop_oneof![Just(0), -HOUR_NS..HOUR_NS]);
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn the_clock_never_jumps_whatever_is_done_to_wall_time(steps in steps()) {
            let (mut boot, mut wall) = (5 * SECOND_NS, WALL);
            let mut clock = SlewClock::new(boot, wall);
            let mut before = wall;
            for (passed, set) in steps {
                boot += passed;
                wall += passed + set;
                let extrapolated = clock.at(boot);
                let now = clock.update(boot, wall);
                prop_assert_eq!(now, extrapolated, "an update changes the rate, not the time");
                let error = (now - before - passed).abs();
                prop_assert!(error <= passed * SLEW_PPM_MAX / 1_000_000 + 1);
                prop_assert!(now >= before);
                before = now;
            }
        }

        #[test]
        fn readings_out_of_order_do_not_turn_it_back(readings: Vec<(i32, i32)>) {
            let mut clock = SlewClock::new(0, WALL);
            let mut before = WALL;
            for (boot, wall) in readings {
                let now = clock.update(i64::from(boot), WALL + i64::from(wall));
                prop_assert!(now >= before);
                before = now;
            }
        }
    }

    #[test]
    fn the_clock_converges_on_wall_time_without_swinging() {
        for jump in [SECOND_NS, -SECOND_NS] {
            let (mut boot, mut wall) = (0, WALL);
            let mut clock = SlewClock::new(boot, wall);
            wall += jump;
            let mut offset = jump.abs();
            // A second at 500 ppm takes 2,000 s; then the last few milliseconds decay.
            for _ in 0..2_400 {
                boot += SECOND_NS;
                wall += SECOND_NS;
                clock.update(boot, wall);
                assert!(clock.offset_ns().abs() <= offset, "no overshoot");
                assert!(clock.offset_ns() == 0 || clock.offset_ns().signum() == jump.signum());
                offset = clock.offset_ns().abs();
            }
            assert!(offset < 1_000_000, "{offset} ns left");
        }
    }

    #[test]
    fn it_goes_on_where_another_was_whatever_wall_time_says() {
        let hour_ahead = Clock::new().moment();
        let hour_ahead = Moment { clock_ns: hour_ahead.clock_ns + HOUR_NS, ..hour_ahead };
        let clock = Clock::going_on_from(Some(hour_ahead));
        let offset_ms = clock.wall_offset_ms();
        assert!((offset_ms + HOUR_NS / 1_000_000).abs() < 1_000, "{offset_ms}");
        let next = Clock::going_on_from(Some(clock.moment()));
        assert!((next.wall_offset_ms() - offset_ms).abs() < 100);
    }

    #[test]
    fn it_is_set_to_wall_time_in_either_direction() {
        for ahead in [HOUR_NS, -HOUR_NS] {
            let now = Clock::new().moment();
            let wrong = Moment { clock_ns: now.clock_ns + ahead, ..now };
            let clock = Clock::going_on_from(Some(wrong));
            let before = clock.now_ms();
            let stepped = clock.step_to_wall();
            let moved = stepped as i64 - before as i64;
            assert!((moved + ahead / 1_000_000).abs() < 1_000, "{moved}");
            // A thread that read the old time before the step writes it afterwards.
            clock.advance(before);
            std::thread::sleep(Duration::from_millis(30));
            let now = clock.now_ms();
            assert!((stepped..stepped + 60_000).contains(&now), "{now} after {stepped}");
            assert!(clock.wall_offset_ms().abs() < 1_000);
        }
        assert_eq!(Clock::slewed_in_s(-3_600_000), 7_200_000);
    }

    #[test]
    fn an_idle_hour_does_not_make_it_overshoot() {
        let mut clock = SlewClock::new(0, WALL);
        clock.update(SECOND_NS, WALL + SECOND_NS + 1_000_000);
        let later = SECOND_NS + HOUR_NS;
        assert_eq!(clock.at(later), WALL + later + 1_000_000);
        clock.update(later, WALL + later + 1_000_000);
        assert_eq!(clock.offset_ns(), 0);
    }

    #[test]
    fn it_follows_a_boot_clock_that_drifts() {
        let (mut boot, mut wall) = (0, WALL);
        let mut clock = SlewClock::new(boot, wall);
        for _ in 0..10_000 {
            boot += SECOND_NS + 50_000; // 50 ppm fast
            wall += SECOND_NS;
            clock.update(boot, wall);
        }
        assert!(clock.offset_ns().abs() < 2_000_000, "{}", clock.offset_ns());
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut clock = SlewClock::new(0, i64::MAX - 5);
        assert_eq!(clock.update(i64::MAX, i64::MIN), i64::MAX);
        assert_eq!(clock.update(i64::MIN, i64::MAX), i64::MAX);
    }

    #[test]
    fn the_clock_reads_wall_time_and_never_decreases_across_threads() {
        let clock = Clock::new();
        let latest = AtomicU64::new(0);
        let start = std::time::Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while start.elapsed().as_millis() < 100 {
                        let seen = latest.load(std::sync::atomic::Ordering::SeqCst);
                        let now = clock.now_ms();
                        assert!(now >= seen, "{now} after {seen}");
                        latest.fetch_max(now, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        let off = clock.now_ms() as i64 - wall_ns() / 1_000_000;
        assert!(off.abs() < 100, "{off} ms off");
        assert!(clock.wall_offset_ms().abs() < 100);
        let before = clock.monotonic_us();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let passed = clock.monotonic_us() - before;
        assert!((18_000..500_000).contains(&passed), "{passed} us");
    }
}
