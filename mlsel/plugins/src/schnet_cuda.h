// What pair_schnet asks of libmlsel_cuda.so: the compressed mode on a GPU.
#ifndef MLSEL_SCHNET_CUDA_H
#define MLSEL_SCHNET_CUDA_H

#include "model_file.h"
#include "schnet_model.h"

extern "C" {

/// A model on a GPU, of the file's precision. device: the GPU's number, or −2, rank_on_node modulo
/// their number; `device_used` tells which. Throws std::runtime_error. The caller owns the model.
typedef mlsel::CompressedModel *mlsel_cuda_function(const mlsel::ModelFile &file, int device,
                                                    int rank_on_node, int *device_used);
}

#endif
