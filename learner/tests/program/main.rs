//! The programs as processes: the command line, studies, CUDA, and faults.

mod actor;
mod chaos;
mod command_line;
mod cuda;
mod examples;
mod manners;
mod reference;
mod replay;
mod soak;
mod study;
mod upgrade;
