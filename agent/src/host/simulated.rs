//! A bucket in the place of the configured one, for a simulation: in test builds alone, and for the thread
//! that asks.

use drctl_store::Bucket;

#[cfg(feature = "crash-points")]
thread_local! {
    static OPENS: std::cell::RefCell<Option<Opens>> = const { std::cell::RefCell::new(None) };
}

/// Opens the bucket of a simulation.
#[cfg(feature = "crash-points")]
pub type Opens = std::rc::Rc<dyn Fn() -> Bucket>;

/// Has this bucket opened from now on, or the configured one.
#[cfg(feature = "crash-points")]
pub fn simulate(opens: Option<Opens>) {
    OPENS.set(opens);
}

/// The bucket of a simulation, where there is one.
#[cfg(feature = "crash-points")]
pub(super) fn simulated() -> Option<Bucket> {
    let opens = OPENS.with_borrow(Clone::clone);
    opens.map(|opens| opens())
}

/// None, in this build.
#[cfg(not(feature = "crash-points"))]
pub(super) fn simulated() -> Option<Bucket> {
    None
}
