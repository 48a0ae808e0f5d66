//! What a simulation does to the shipped code, in test builds alone (the feature `crash-points`): faults
//! that it plants, to show that it would find them, and calls at which the process is as good as dead.
//! Every other build has neither. Both are of the thread that asks.

#[cfg(feature = "crash-points")]
use std::any::Any;
#[cfg(feature = "crash-points")]
use std::cell::{Cell, RefCell};
#[cfg(feature = "crash-points")]
use std::rc::Rc;

/// The faults that can be planted, one at a time: each is made where the shipped code decides.
pub const PLANTED: &[&str] = &[
    "attempt-never-settled",
    "blackout-ignored",
    "chain-cut",
    "data-before-the-manifest",
    "day-of-another-zone",
    "doubled-after-a-restart",
    "floor-forgotten",
    "freeze-ignored",
    "log-behind-the-floor",
    "log-from-the-newest-base",
    "mass-removal-unasked",
    "missed-and-not-made-up-for",
    "orphan-too-young",
    "pin-ignored",
    "rest-forgotten",
    "row-left",
    "tombstone-behind-the-data",
    "two-at-once",
    "window-forgotten",
];

/// Hears of the catalog's calls.
#[cfg(feature = "crash-points")]
pub trait HearsCalls {
    /// One begins; what this gives is kept until it has ended.
    fn begins(&self) -> Box<dyn Any + Send>;

    /// It has ended; whether the process is dead by then.
    fn ended(&self) -> bool;
}

#[cfg(feature = "crash-points")]
thread_local! {
    static PLANT: Cell<Option<&'static str>> = const { Cell::new(None) };
    static HEARS: RefCell<Option<Rc<dyn HearsCalls>>> = const { RefCell::new(None) };
}

/// Whether this fault is planted.
#[cfg(feature = "crash-points")]
#[must_use]
pub fn planted(name: &str) -> bool {
    PLANT.get() == Some(name)
}

/// Never, in this build.
#[cfg(not(feature = "crash-points"))]
#[must_use]
pub const fn planted(_: &str) -> bool {
    false
}

/// Plants a fault, or none.
#[cfg(feature = "crash-points")]
pub fn plant(name: Option<&'static str>) {
    PLANT.set(name);
}

/// Has calls of the catalog heard by somebody, or by nobody.
#[cfg(feature = "crash-points")]
pub fn hear_calls(hears: Option<Rc<dyn HearsCalls>>) {
    HEARS.set(hears);
}

/// A call of the catalog, as a simulation hears of it.
#[derive(Default)]
pub struct Call {
    #[cfg(feature = "crash-points")]
    kept: Option<Box<dyn Any + Send>>,
}

impl Call {
    /// It begins.
    #[cfg(feature = "crash-points")]
    #[must_use]
    pub fn begin() -> Self {
        let hears = HEARS.with_borrow(Clone::clone);
        Call { kept: hears.map(|hears| hears.begins()) }
    }

    /// It begins, and nobody hears of it in this build.
    #[cfg(not(feature = "crash-points"))]
    #[must_use]
    pub fn begin() -> Self {
        Call::default()
    }

    /// It has ended; whether the process is dead by then: the answer never comes.
    #[cfg(feature = "crash-points")]
    #[must_use]
    pub fn is_dead(self) -> bool {
        drop(self.kept);
        let hears = HEARS.with_borrow(Clone::clone);
        hears.is_some_and(|hears| hears.ended())
    }

    /// It has ended, and nobody is dead in this build.
    #[cfg(not(feature = "crash-points"))]
    #[must_use]
    pub fn is_dead(self) -> bool {
        false
    }
}
