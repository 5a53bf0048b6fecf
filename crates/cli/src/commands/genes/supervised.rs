//! Essentiality from the model's vectors, measured on genes that were not fitted to.

use cistron_score::metrics::{Logistic, auroc};

use super::Scored;

/// Parts of a single genome, along it.
const PARTS: usize = 5;

/// Strengths of the ridge that are tried.
const RIDGES: [f64; 4] = [3.0, 30.0, 300.0, 3000.0];

/// Log-odds of every gene of every genome, from a regression that has not seen its genome, or, of
/// a single genome, its fifth.
pub struct HeldOut {
    /// From the vectors.
    pub vectors: Vec<Vec<f64>>,
    /// From length and GC.
    pub length_gc: Vec<Vec<f64>>,
    /// What was left out each time.
    pub folds: &'static str,
}

/// A gene by the numbers of its genome and in it.
type Id = (usize, usize);

/// Fits and applies.
pub fn held_out(scored: &[Scored]) -> HeldOut {
    let (folds, said): (Vec<Vec<Id>>, _) = match scored {
        [only] => {
            let count = only.genes.len();
            let part = |k: usize| (k * count / PARTS..(k + 1) * count / PARTS).map(|i| (0, i));
            let parts = (0..PARTS).map(|k| part(k).collect()).collect();
            (parts, "fifths of the genome")
        }
        _ => {
            let all = scored.iter().enumerate();
            let of =
                |(g, genome): (usize, &Scored)| (0..genome.genes.len()).map(|i| (g, i)).collect();
            (all.map(of).collect(), "genomes")
        }
    };
    let empty = || scored.iter().map(|g| vec![0.0; g.genes.len()]).collect();
    let (mut vectors, mut length_gc): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (empty(), empty());
    let label = |&(g, i): &Id| scored[g].positive.as_ref().is_some_and(|p| p[i]);
    let of_vectors = |ids: &[Id]| -> Vec<Vec<f64>> {
        let width = ids.first().map_or(0, |&(g, i)| scored[g].vectors[i].len());
        let value = |k: usize, &(g, i): &Id| f64::from(scored[g].vectors[i][k]);
        (0..width)
            .map(|k| ids.iter().map(|id| value(k, id)).collect())
            .collect()
    };
    let of_length_gc = |ids: &[Id]| -> Vec<Vec<f64>> {
        let gene = |&(g, i): &Id| &scored[g].genes[i];
        vec![
            ids.iter().map(|id| (gene(id).length as f64).ln()).collect(),
            ids.iter().map(|id| gene(id).gc).collect(),
        ]
    };
    for (k, out) in folds.iter().enumerate() {
        let rest: Vec<Id> = folds
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != k)
            .flat_map(|(_, ids)| ids.iter().copied())
            .collect();
        let labels: Vec<bool> = rest.iter().map(label).collect();
        let ridge = best_ridge(&rest, &labels, &of_vectors);
        let apply = |fitted: Logistic, features: Vec<Vec<f64>>, to: &mut Vec<Vec<f64>>| {
            for (&(g, i), odds) in out.iter().zip(fitted.log_odds(&features)) {
                to[g][i] = odds;
            }
        };
        let fitted = Logistic::fit(&of_vectors(&rest), &labels, ridge);
        apply(fitted, of_vectors(out), &mut vectors);
        let fitted = Logistic::fit(&of_length_gc(&rest), &labels, 1e-3);
        apply(fitted, of_length_gc(out), &mut length_gc);
    }
    HeldOut {
        vectors,
        length_gc,
        folds: said,
    }
}

/// The ridge with the highest AUROC on the last fifth of the genes when fitted to the others.
fn best_ridge(ids: &[Id], labels: &[bool], features: &dyn Fn(&[Id]) -> Vec<Vec<f64>>) -> f64 {
    let cut = ids.len() * 4 / 5;
    let (inner, outer) = (features(&ids[..cut]), features(&ids[cut..]));
    let quality = |ridge: f64| {
        let odds = Logistic::fit(&inner, &labels[..cut], ridge).log_odds(&outer);
        auroc(&odds, &labels[cut..]).map_or(0.5, |area| area.auroc)
    };
    let tried = RIDGES.map(|ridge| (ridge, quality(ridge)));
    let best = tried
        .iter()
        .copied()
        .reduce(|best, next| match next.1 > best.1 {
            true => next,
            false => best,
        });
    best.map_or(RIDGES[0], |(ridge, _)| ridge)
}
