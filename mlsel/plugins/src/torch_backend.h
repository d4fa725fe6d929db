// What pair_schnet asks of libmlsel_torch.so: a TorchScript model, layer by layer. No torch and no
// LAMMPS in this header, so that neither side sees the other.
//
// Features are rows of numbers of the model's dtype: n_local rows of own atoms, then ghosts.
// Every function returns null, or the cause of a failure (valid until the next call).
#ifndef MLSEL_TORCH_BACKEND_H
#define MLSEL_TORCH_BACKEND_H

#include <cstddef>
#include <cstdint>

extern "C" {

/// The graph of one step. Pairs are listed once; the first n_mirrored connect two own atoms and
/// carry messages both ways, the others go from a ghost (sender) to an own atom (receiver).
/// `vectors` point from the receiver to the sender, Å.
struct mlsel_graph {
  int64_t n_local, n_nodes, n_pairs, n_mirrored;
  const int64_t *numbers;      // n_nodes
  const int64_t *receivers;    // n_pairs
  const int64_t *senders;      // n_pairs
  const double *vectors;       // n_pairs × 3
};

struct mlsel_torch_api {
  /// `bytes` is the whole file. device: −1 CPU, k ≥ 0 the GPU of that number, −2 a GPU if torch
  /// sees one (rank_on_node modulo their number). `device_used` tells which. `cutoff`,
  /// `n_layers` and `widths` are what the file tells: the model must not tell otherwise.
  const char *(*open)(const char *bytes, size_t n, int device, int rank_on_node, int n_threads,
                      int is_double, int n_layers, const int *widths, double cutoff, void **model,
                      int *device_used);
  void (*close)(void *model);

  /// Energies, and gradients of their sum by the pairs' vectors, where there are no ghosts.
  const char *(*evaluate)(void *model, const mlsel_graph *graph, double *energies,
                          double *gradients);

  /// The same by layers, for a caller that exchanges ghosts' features and gradients in between.
  const char *(*begin)(void *model, const mlsel_graph *graph, void *features);
  const char *(*forward)(void *model, int layer, const void *features, int width, void *out,
                         int out_width);
  const char *(*readout)(void *model, double *energies, void *gradient, int width);
  const char *(*backward)(void *model, int layer, const void *gradient_out, int out_width,
                          void *gradient, int width);
  const char *(*finish)(void *model, double *gradients);
};

typedef const mlsel_torch_api *mlsel_torch_api_function(void);
}

#endif
