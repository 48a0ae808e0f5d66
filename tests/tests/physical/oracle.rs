//! A cluster under load, restored to random points: what comes back is what had been committed.

use drctl_tests::oracle;

use crate::log::Archiving;

#[test]
fn a_random_point_under_load_restores_exactly_what_was_committed() {
    oracle::under_load(Archiving::start(true));
}

#[test]
fn a_random_point_on_either_side_of_a_promotion_restores_what_was_committed() {
    oracle::across_a_promotion(Archiving::start(true));
}
