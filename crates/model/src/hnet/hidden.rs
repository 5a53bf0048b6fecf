//! What a model makes of tokens, before it says what comes next.

use tch::{Kind, Tensor};

use super::{HNet, Pass};
use crate::routing::Routing;

impl HNet {
    /// The vectors that the output layer reads, fp32 `[tokens, width]`, with what each router
    /// decided, outermost first.
    ///
    /// # Panics
    ///
    /// As [`HNet::forward`].
    pub fn hidden(&self, tokens: &Tensor, lengths: &[i64]) -> (Tensor, Vec<Routing>) {
        let (x, marks) = self.embed(tokens, lengths);
        let mut pass = Pass::new(&self.compute, false, marks);
        let (y, _) = self.backbone.forward(&x, None, &mut pass);
        (y.to_kind(Kind::Float), pass.routing)
    }
}
