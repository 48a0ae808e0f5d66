//! What the tests of drctl share: real servers, started for one test and gone with it.

pub mod agent;
pub mod apart;
pub mod cluster;
pub mod damage;
pub mod envelope;
pub mod fake;
pub mod hostile;
pub mod json_page;
pub mod oracle;
pub mod promises;
pub mod servers;
pub mod site;
pub mod targets;
pub mod unfit;
