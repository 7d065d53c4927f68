//! The learner over real sockets: admission, load tests, the live page, security, whole runs, streams that
//! break, and virtual time.

mod admission;
mod load;
mod page;
mod run;
mod security;
mod streams;
mod virtual_time;
