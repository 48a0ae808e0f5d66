//! A cluster under load whose backups and log pgBackRest keeps, restored to random points: what
//! comes back is what had been committed.

use drctl_tests::oracle;

use crate::common::Shop;

#[test]
fn a_random_point_under_load_restores_exactly_what_was_committed() {
    oracle::under_load(Shop::start());
}

#[test]
fn a_random_point_on_either_side_of_a_promotion_restores_what_was_committed() {
    oracle::across_a_promotion(Shop::start());
}
