"""Everything PyTorch: networks, losses, dataset from bags, trainer, planner graphs, export."""
