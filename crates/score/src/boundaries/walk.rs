//! One strand of one contig, read block after block.

use cistron_genome::coord::{Strand, Topology};
use cistron_genome::fasta::Contig;
use cistron_genome::revcomp;
use cistron_genome::window::Window;
use cistron_model::{HNet, State};
use tch::{Device, Kind, Tensor};

use super::block;
use crate::engine::Engine;
use crate::error::ScoreError;

/// One stage of a piece, base by base.
#[derive(Debug, Clone, PartialEq)]
pub struct StagePiece {
    /// Probability that a chunk starts at each base, reading along the strand; zero at inner
    /// stages where no outer chunk starts.
    pub prob: Vec<f32>,
    /// Whether a chunk starts there.
    pub start: Vec<bool>,
}

/// What a model says of neighbouring bases, in forward coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Zero-based index of the first of them in its contig.
    pub start: usize,
    /// `-log2` of each base's likelihood, in bits.
    pub information: Vec<f32>,
    /// Entropy of the prediction of each base, in bits.
    pub entropy: Vec<f32>,
    /// Stages, outermost first.
    pub stages: Vec<StagePiece>,
}

/// A strand of a contig on its way from end to end.
#[derive(Debug)]
pub struct Walk<'a> {
    number: usize,
    contig: &'a Contig,
    strand: Strand,
    /// Next base in reading direction; negative before a circular contig's origin.
    at: i64,
    /// What the model holds after the token before it.
    memory: Option<Memory>,
}

#[derive(Debug)]
struct Memory {
    state: State,
    /// Log-probabilities of the next token: `[1, vocabulary]`.
    next: Tensor,
}

impl<'a> Walk<'a> {
    /// Stands before the first base of the `number`-th contig, on a circular one `warm_up`
    /// bases before it.
    pub fn new(number: usize, contig: &'a Contig, strand: Strand, warm_up: usize) -> Self {
        let before = match contig.topology {
            Topology::Linear => 0,
            Topology::Circular => warm_up.min(contig.bases.len()),
        };
        Self {
            number,
            contig,
            strand,
            at: -(before as i64),
            memory: None,
        }
    }

    /// The number of the contig.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The strand.
    pub fn strand(&self) -> Strand {
        self.strand
    }

    /// Reads on to the next piece; none at the end.
    ///
    /// # Errors
    ///
    /// A likelihood is not a finite number.
    pub fn advance(&mut self, engine: &Engine, model: &HNet) -> Result<Option<Piece>, ScoreError> {
        let length = self.contig.bases.len() as i64;
        loop {
            let before = self.at < 0;
            let end = if before { 0 } else { length };
            let count = (end - self.at).min(block(model.device()) as i64);
            if count <= 0 {
                return Ok(None);
            }
            let piece = self.block(engine, model, count as usize)?;
            self.at += count;
            if !before {
                return Ok(Some(piece));
            }
        }
    }

    /// The next `count` bases in reading direction, and where they lie on the forward strand.
    fn bases(&self, count: usize) -> (i64, Vec<u8>) {
        match self.strand {
            Strand::Forward => (self.at, Window::extract(self.contig, self.at, count).bases),
            Strand::Reverse => {
                let start = self.contig.bases.len() as i64 - self.at - count as i64;
                (
                    start,
                    revcomp(&Window::extract(self.contig, start, count).bases),
                )
            }
        }
    }

    fn block(&mut self, engine: &Engine, model: &HNet, count: usize) -> Result<Piece, ScoreError> {
        let (start, bases) = self.bases(count);
        let alphabet = engine.alphabet();
        let memory = self.memory.take();
        // The beginning token stands before the first base.
        let lead = usize::from(memory.is_none());
        let mut tokens = Vec::with_capacity(count + lead);
        tokens.extend(memory.is_none().then(|| i64::from(alphabet.bos())));
        tokens.extend(bases.iter().map(|&base| i64::from(alphabet.encode(base))));
        let total = tokens.len() as i64;
        let tokens = Tensor::from_slice(&tokens);
        let (output, state) = model.forward_from(
            &tokens,
            &[total],
            memory.as_ref().map(|memory| &memory.state),
        );
        let logs = output
            .logits
            .to_kind(Kind::Float)
            .log_softmax(-1, Kind::Float);
        // Each base is told by the token before it.
        let told = match &memory {
            None => logs.narrow(0, 0, total - 1),
            Some(memory) => Tensor::cat(&[&memory.next, &logs.narrow(0, 0, total - 1)], 0),
        };
        let targets = tokens
            .narrow(0, lead as i64, count as i64)
            .to_device(model.device())
            .unsqueeze(1);
        let bits = -f64::from(std::f32::consts::LOG2_E);
        let information = told.gather(1, &targets, false).squeeze_dim(1) * bits;
        let entropy =
            (&told * told.exp()).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float) * bits;
        let information = floats(&information);
        if let Some(at) = information.iter().position(|value| !value.is_finite()) {
            return Err(ScoreError::NotFinite {
                base: at + 1,
                length: count,
                value: information[at],
            });
        }
        let mut piece = Piece {
            start: start.max(0) as usize,
            information,
            entropy: floats(&entropy),
            stages: Vec::with_capacity(output.routing.len()),
        };
        // Token of stage 0 behind each token of the present stage.
        let mut behind: Vec<usize> = (0..total as usize).collect();
        for routing in &output.routing {
            let mask = Vec::<bool>::try_from(routing.mask.to_device(Device::Cpu))
                .expect("a mask is bool and has one dimension");
            let mut prob = vec![0.0; total as usize];
            let mut starts = vec![false; total as usize];
            let values = floats(&routing.prob);
            for ((&token, &p), &b) in behind.iter().zip(&values).zip(&mask) {
                prob[token] = p;
                starts[token] = b;
            }
            let mut selected = mask.iter();
            behind.retain(|_| *selected.next().unwrap_or(&false));
            piece.stages.push(StagePiece {
                prob: prob.split_off(lead),
                start: starts.split_off(lead),
            });
        }
        if self.strand == Strand::Reverse {
            piece.information.reverse();
            piece.entropy.reverse();
            for stage in &mut piece.stages {
                stage.prob.reverse();
                stage.start.reverse();
            }
        }
        let next = logs.narrow(0, total - 1, 1).copy();
        self.memory = Some(Memory { state, next });
        Ok(piece)
    }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_device(Device::Cpu).contiguous())
        .expect("an fp32 tensor of one dimension")
}
