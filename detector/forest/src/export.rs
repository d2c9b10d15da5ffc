//! The trees as JSON, so that another program can score with them.
//!
//! ```text
//! {"sample_size": 256, "n_features": 9, "trees": [[node, ...], ...]}
//! node: [feature, cut, left, right, rows] or [rows] for a leaf; root first; values up to the cut go left
//! ```
//! Cuts are written in full, so a reader that takes them as doubles and compares values narrowed to single precision
//! walks the same way. Written by hand: seven kinds of character are not worth a dependency.

use crate::forest::Forest;

impl Forest {
    /// The forest as JSON; see the module for the shape.
    pub fn to_json(&self) -> String {
        let mut out = format!(
            "{{\"sample_size\":{},\"n_features\":{},\"trees\":[",
            self.sample_size, self.n_features
        );
        for (number, tree) in self.trees.iter().enumerate() {
            out.push_str(if number == 0 { "[" } else { ",[" });
            for (idx, (node, rows)) in tree.nodes.iter().zip(&tree.counts).enumerate() {
                if idx > 0 {
                    out.push(',');
                }
                let text = if tree.is_leaf(idx) {
                    format!("[{rows}]")
                } else {
                    let (feature, cut, left) = (node.feature(), f64::from(node.cut), node.left());
                    format!("[{feature},{cut:e},{left},{},{rows}]", left + 1)
                };
                out.push_str(&text);
            }
            out.push(']');
        }
        out.push_str("]}");
        out
    }
}
