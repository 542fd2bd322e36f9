//! The operations of the public API as one macro, so that no front end keeps a list of its own.

use prost_reflect::DescriptorPool;
use std::error::Error;
use std::fmt::Write as _;

/// The service whose operations are Amazon ECS's.
const SERVICE: &str = "muster.v1.Ecs";

/// `ecs_operations!(then)` is `then! { Name method Request Response; ... }`.
pub fn operations(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let service = pool.get_service_by_name(SERVICE).ok_or_else(|| format!("no {SERVICE}"))?;
    let mut code = String::from(
        "/// Calls the named macro with every operation of ECS's API that has an rpc:\n\
         /// its name, the dispatcher's method, its request and its answer.\n\
         #[macro_export]\nmacro_rules! ecs_operations {\n($then:ident) => { $then! {\n",
    );
    for method in service.methods() {
        let (name, input, output) = (method.name(), method.input(), method.output());
        writeln!(code, "{name} {} {} {};", snake(name), input.name(), output.name())?;
    }
    code.push_str("} };\n}\n");
    Ok(code)
}

/// `RunTask` as the method that answers it: `run_task`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
