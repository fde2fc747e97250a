"""The API that scripts written for matterport/Mask_RCNN know, on the parts of streamseg."""
