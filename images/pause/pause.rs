//! The first process of every pod in the development cluster: it holds the pod's namespaces and does nothing.

fn main() {
    loop {
        std::thread::park();
    }
}
