//! `selftest` passes on the reference's vectors, and notices what is not of the reference.

use std::collections::HashMap;
use std::path::Path;

use cistron_tests::binary::{Finished, cistron, finish, workspace};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

const SMALLEST: &str = "hnet_1stage.safetensors";

fn selftest(files: &[&Path]) -> Finished {
    let mut command = cistron(Path::new("/"), ["selftest", "--threads", "1"]);
    for file in files {
        command.arg("--golden").arg(file);
    }
    finish(command)
}

/// Writes a golden file with its configuration and tensors changed.
fn changed(
    path: &Path,
    change_metadata: impl Fn(&mut HashMap<String, String>),
    change: impl Fn(&str, &mut Vec<u8>),
) {
    let bytes = std::fs::read(workspace().join("tests/golden").join(SMALLEST)).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    change_metadata(&mut metadata);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<_> = file
        .iter()
        .map(|(name, view)| {
            let mut data = view.data().to_vec();
            change(name, &mut data);
            (name, view.dtype(), view.shape().to_vec(), data)
        })
        .collect();
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (*name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

/// The fields of each file's line, without the line of names.
fn rows(finished: &Finished) -> Vec<Vec<String>> {
    let fields = |line: &str| line.split('\t').map(str::to_owned).collect();
    finished.text().lines().skip(1).map(fields).collect()
}

#[test]
fn the_reference_is_met() {
    let rows = rows(&selftest(&[]).expect(0));
    assert_eq!(rows.len(), 8);
    let (networks, others) = rows.split_at(3);
    assert_eq!(others[0][0], "lyra.safetensors");
    for row in others {
        let number = |i: usize| row[i].parse::<f64>();
        assert!(number(1).unwrap() <= 1e-5, "outputs: {row:?}");
        assert!(number(4).unwrap_or(0.0) <= 1e-4, "gradients: {row:?}");
        assert_eq!(row[6], "ok");
    }
    let states = others.iter().filter(|row| row[0].starts_with("mamba3"));
    assert_eq!(states.count(), 4);
    for row in networks {
        let number = |i: usize| row[i].parse::<f64>().unwrap();
        assert!(number(1) <= 2e-5, "logits: {row:?}");
        assert_eq!(number(2), 0.0, "boundaries: {row:?}");
        assert!(number(3) <= 2e-6, "losses: {row:?}");
        assert!(number(4) <= 2e-4, "gradients: {row:?}");
        assert_eq!(row[6], "ok");
    }
}

#[test]
fn one_logit_off_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("off.safetensors");
    let off = |name: &str, data: &mut Vec<u8>| {
        if name == "logits" {
            let place = &mut data[40..44];
            let value = f32::from_le_bytes((&*place).try_into().unwrap());
            place.copy_from_slice(&(value + 1e-3).to_le_bytes());
        }
    };
    changed(&path, |_| {}, off);
    let finished = selftest(&[&path]).expect(1);
    let row = &rows(&finished)[0];
    let logits: f64 = row[1].parse().unwrap();
    assert!((9e-4..1.1e-3).contains(&logits), "{row:?}");
    assert_eq!(row[6], "BEYOND TOLERANCE");
    assert!(
        finished
            .stderr
            .contains("off.safetensors beyond the tolerance"),
        "{}",
        finished.stderr
    );
}

#[test]
fn an_unknown_layout_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("strange.safetensors");
    let strange = |metadata: &mut HashMap<String, String>| {
        let config = metadata.get_mut("config").unwrap();
        let mut value: serde_json::Value = serde_json::from_str(config).unwrap();
        value["arch_layout"][0] = "q2".into();
        *config = value.to_string();
    };
    changed(&path, strange, |_, _| {});
    let finished = selftest(&[&path]).expect(1);
    assert!(
        finished.stderr.contains("unknown letter 'q'"),
        "{}",
        finished.stderr
    );
    assert!(
        finished.stderr.contains("strange.safetensors"),
        "{}",
        finished.stderr
    );
}

#[test]
fn another_file_is_no_golden_file() {
    let model = cistron_tests::fixture::Fixture::get().model();
    let path = model.join("model.safetensors");
    let finished = selftest(&[&path]).expect(1);
    assert!(
        finished.stderr.contains("model.safetensors"),
        "{}",
        finished.stderr
    );
    assert!(finished.stderr.contains("golden"), "{}", finished.stderr);
}
