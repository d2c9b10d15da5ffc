//! The command line: help, configuration, exit statuses.

use crate::support::run;

#[test]
fn help_names_every_command() {
    let (status, help, _) = run(&["--help"], "");
    assert_eq!(status, 0);
    for command in ["run", "openapi", "login-link", "user"] {
        assert!(help.contains(command), "{help}");
    }
}

#[test]
fn wrong_use_ends_with_2_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.yaml");
    for (text, with) in [
        ("listne: 127.0.0.1:1\n", "did you mean \"listen\"?"),
        ("listen: 0.0.0.0:1\n", "public_url"),
        ("limits: {query_rows: 0}\n", "limits.query_rows is 0"),
        ("store: {token_file: /nonexistent}\n", "/nonexistent"),
    ] {
        std::fs::write(&file, format!("{text}data: {}\n", folder.path().display())).unwrap();
        let (status, _, errors) = run(&["run", "--config", file.to_str().unwrap()], "");
        assert_eq!(status, 2, "{text}: {errors}");
        let last = errors.lines().last().unwrap();
        assert!(
            last.starts_with("ja4-dashboard: ") && last.contains(with),
            "{errors}"
        );
    }
    let (status, _, errors) = run(&["run", "--config", "/nonexistent.yaml"], "");
    assert_eq!(status, 2, "{errors}");
    let (status, _, _) = run(&["nonsense"], "");
    assert_eq!(status, 2);
}

#[test]
fn a_taken_port_is_said_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = folder.path().join("x.yaml");
    std::fs::write(
        &file,
        format!(
            "listen: {}\ndata: {}\n",
            taken.local_addr().unwrap(),
            folder.path().display()
        ),
    )
    .unwrap();
    let (status, _, errors) = run(&["run", "--config", file.to_str().unwrap()], "");
    assert_eq!(status, 1, "{errors}");
    assert!(errors.contains("set listen to a free address"), "{errors}");
}

#[test]
fn the_configuration_can_be_printed_and_read_again() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/samples/dashboard.yaml");
    let (status, printed, errors) = run(&["run", "--config", sample, "--print-config"], "");
    assert_eq!(status, 0, "{errors}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.yaml");
    std::fs::write(&file, &printed).unwrap();
    let (_, again, _) = run(&["run", "--config", file.to_str().unwrap(), "--print-config"], "");
    assert_eq!(printed, again);
}
