//! The programs as processes: the command line, studies, CUDA, and faults.

mod chaos;
mod command_line;
mod cuda;
mod examples;
mod reference;
mod soak;
mod study;
mod upgrade;
