//! Heads of resources: the type and the last change, read without building a tree.

mod fast;
mod general;
mod parse;
mod resource;
mod resource_head;
mod unvalidated;

pub use resource::{MemberIndex, Resource};
pub use resource_head::{InvalidResource, ResourceHead, ResourceIdentity};
pub use unvalidated::UnvalidatedHead;
