//! The learner over real sockets: admission, security, whole runs, and streams that break.

mod admission;
mod run;
mod security;
mod streams;
