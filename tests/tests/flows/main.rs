//! Whole exports through the six real handlers, undisturbed and under every fault that the design names.

mod audit;
mod auditors;
mod canary;
mod clients;
mod crash;
mod deidentified;
mod ends;
mod faults;
mod keys;
mod list;
mod login;
mod model;
mod organized;
mod places;
mod polls;
mod process;
mod queue;
mod registered;
mod scopes;
mod served;
mod versions;
mod walk;
mod whole;
