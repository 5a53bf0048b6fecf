//! Runs every folder of `tests/cases`, each as a test of its name. See [`cistron_tests::case`].

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let bless = std::env::var("CISTRON_BLESS").is_ok_and(|value| value == "1");
    let trials = cistron_tests::case::all()
        .into_iter()
        .map(|case| {
            let can_run = case.can_run();
            let trial = Trial::test(case.name.clone(), move || {
                case.run(bless).map_err(Failed::from)
            });
            match can_run {
                true => trial,
                false => trial
                    .with_kind("SKIPPED, see its needs")
                    .with_ignored_flag(true),
            }
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
