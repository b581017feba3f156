"""Names and signatures that programs written for Matterport's package use; none may get lost."""

import inspect

import pytest

from mrcnn import config, model, parallel_model, utils, visualize

FUNCTIONS = {
    model: """
        log(text, array)
        compute_backbone_shapes(config, image_shape)
        identity_block(input_tensor, kernel_size, filters, stage, block, use_bias, train_bn)
        conv_block(input_tensor, kernel_size, filters, stage, block, strides, use_bias, train_bn)
        resnet_graph(input_image, architecture, stage5, train_bn)
        apply_box_deltas_graph(boxes, deltas)
        clip_boxes_graph(boxes, window)
        overlaps_graph(boxes1, boxes2)
        log2_graph(x)
        ProposalLayer(proposal_count, nms_threshold, config, **)
        PyramidROIAlign(pool_shape, **)
        DetectionTargetLayer(config, **)
        DetectionLayer(config, **)
        detection_targets_graph(proposals, gt_class_ids, gt_boxes, gt_masks, config)
        refine_detections_graph(rois, probs, deltas, window, config)
        rpn_graph(feature_map, anchors_per_location, anchor_stride)
        build_rpn_model(anchor_stride, anchors_per_location, depth)
        fpn_classifier_graph(rois, feature_maps, image_meta, pool_size, num_classes, train_bn, \
fc_layers_size)
        build_fpn_mask_graph(rois, feature_maps, image_meta, pool_size, num_classes, train_bn)
        smooth_l1_loss(y_true, y_pred)
        rpn_class_loss_graph(rpn_match, rpn_class_logits)
        rpn_bbox_loss_graph(config, target_bbox, rpn_match, rpn_bbox)
        mrcnn_class_loss_graph(target_class_ids, pred_class_logits, active_class_ids)
        mrcnn_bbox_loss_graph(target_bbox, target_class_ids, pred_bbox)
        mrcnn_mask_loss_graph(target_masks, target_class_ids, pred_masks)
        load_image_gt(dataset, config, image_id, augment, augmentation, use_mini_mask)
        build_detection_targets(rpn_rois, gt_class_ids, gt_boxes, gt_masks, config)
        build_rpn_targets(image_shape, anchors, gt_class_ids, gt_boxes, config)
        generate_random_rois(image_shape, count, gt_class_ids, gt_boxes)
        data_generator(dataset, config, shuffle, augment, augmentation, random_rois, batch_size, \
detection_targets, no_augmentation_sources)
        DataGenerator(dataset, config, shuffle, augmentation, random_rois, detection_targets)
        compose_image_meta(image_id, original_image_shape, image_shape, window, scale, \
active_class_ids)
        parse_image_meta(meta)
        parse_image_meta_graph(meta)
        mold_image(images, config)
        unmold_image(normalized_images, config)
        trim_zeros_graph(boxes, name)
        batch_pack_graph(x, counts, num_rows)
        norm_boxes_graph(boxes, shape)
        denorm_boxes_graph(boxes, shape)
        MaskRCNN(mode, config, model_dir)
        MeanAveragePrecisionCallback(train_model, inference_model, dataset, \
calculate_map_at_every_X_epoch, dataset_limit, verbose)
    """,
    model.MaskRCNN: """
        build(self, mode, config)
        find_last(self)
        load_weights(self, filepath, by_name, exclude)
        get_imagenet_weights(self)
        compile(self, learning_rate, momentum)
        set_trainable(self, layer_regex, keras_model, indent, verbose)
        set_log_dir(self, model_path)
        train(self, train_dataset, val_dataset, learning_rate, epochs, layers, augmentation, \
custom_callbacks, no_augmentation_sources)
        mold_inputs(self, images)
        unmold_detections(self, detections, mrcnn_mask, original_image_shape, image_shape, window)
        detect(self, images, verbose)
        detect_molded(self, molded_images, image_metas, verbose)
        get_anchors(self, image_shape)
        ancestor(self, tensor, name, checked)
        find_trainable_layer(self, layer)
        get_trainable_layers(self)
        run_graph(self, images, outputs, image_metas)
    """,
    config.Config: """
        display(self)
        to_dict(self)
    """,
    utils: """
        extract_bboxes(mask)
        compute_iou(box, boxes, box_area, boxes_area)
        compute_overlaps(boxes1, boxes2)
        compute_overlaps_masks(masks1, masks2)
        non_max_suppression(boxes, scores, threshold)
        apply_box_deltas(boxes, deltas)
        box_refinement_graph(box, gt_box)
        box_refinement(box, gt_box)
        resize_image(image, min_dim, max_dim, min_scale, mode)
        resize_mask(mask, scale, padding, crop)
        minimize_mask(bbox, mask, mini_shape)
        expand_mask(bbox, mini_mask, image_shape)
        mold_mask(mask, config)
        unmold_mask(mask, bbox, image_shape)
        generate_anchors(scales, ratios, shape, feature_stride, anchor_stride)
        generate_pyramid_anchors(scales, ratios, feature_shapes, feature_strides, anchor_stride)
        trim_zeros(x)
        compute_matches(gt_boxes, gt_class_ids, gt_masks, pred_boxes, pred_class_ids, \
pred_scores, pred_masks, iou_threshold, score_threshold)
        compute_ap(gt_boxes, gt_class_ids, gt_masks, pred_boxes, pred_class_ids, pred_scores, \
pred_masks, iou_threshold)
        compute_ap_range(gt_box, gt_class_id, gt_mask, pred_box, pred_class_id, pred_score, \
pred_mask, iou_thresholds, verbose)
        compute_recall(pred_boxes, gt_boxes, iou)
        batch_slice(inputs, graph_fn, batch_size, names)
        download_trained_weights(coco_model_path, verbose)
        norm_boxes(boxes, shape)
        denorm_boxes(boxes, shape)
        resize(image, output_shape, order, mode, cval, clip, preserve_range, anti_aliasing, \
anti_aliasing_sigma)
        Dataset(class_map)
    """,
    utils.Dataset: """
        add_class(self, source, class_id, class_name)
        add_image(self, source, image_id, path, **)
        image_reference(self, image_id)
        prepare(self, class_map)
        map_source_class_id(self, source_class_id)
        get_source_class_id(self, class_id, source)
        source_image_link(self, image_id)
        load_image(self, image_id)
        load_mask(self, image_id)
    """,
    visualize: """
        display_images(images, titles, cols, cmap, norm, interpolation)
        random_colors(N, bright)
        apply_mask(image, mask, color, alpha)
        display_instances(image, boxes, masks, class_ids, class_names, scores, title, figsize, \
ax, show_mask, show_bbox, colors, captions)
        display_differences(image, gt_box, gt_class_id, gt_mask, pred_box, pred_class_id, \
pred_score, pred_mask, class_names, title, ax, show_mask, show_box, iou_threshold, score_threshold)
        draw_rois(image, rois, refined_rois, mask, class_ids, class_names, limit)
        draw_box(image, box, color)
        display_top_masks(image, mask, class_ids, class_names, limit)
        plot_precision_recall(AP, precisions, recalls)
        plot_overlaps(gt_class_ids, pred_class_ids, pred_scores, overlaps, class_names, threshold)
        draw_boxes(image, boxes, refined_boxes, masks, captions, visibilities, title, ax)
        display_table(table)
        display_weight_stats(model)
    """,
    parallel_model: """
        ParallelModel(keras_model, gpu_count)
    """,
}
DEFAULTS = {
    "load_image_gt": {"augment": False, "augmentation": None, "use_mini_mask": False},
    "data_generator": {
        "shuffle": True,
        "augment": False,
        "augmentation": None,
        "random_rois": 0,
        "batch_size": 1,
        "detection_targets": False,
        "no_augmentation_sources": None,
    },
    "resize_image": {"min_dim": None, "max_dim": None, "min_scale": None, "mode": "square"},
    "load_weights": {"by_name": False, "exclude": None},
    "resnet_graph": {"stage5": False, "train_bn": True},
    "conv_block": {"strides": (2, 2), "use_bias": True, "train_bn": True},
    "fpn_classifier_graph": {"train_bn": True, "fc_layers_size": 1024},
    "compute_matches": {"iou_threshold": 0.5, "score_threshold": 0.0},
    "resize": {"order": 1, "mode": "constant", "cval": 0, "preserve_range": False},
    "MeanAveragePrecisionCallback": {
        "calculate_map_at_every_X_epoch": 5,
        "dataset_limit": None,
        "verbose": 1,
    },
}
ATTRIBUTES = {
    model: ("utils", "tf", "np", "K", "KL", "KM", "KE", "keras", "BatchNorm"),
    utils: ("COCO_MODEL_URL", "np"),
    visualize: ("plt", "patches", "lines", "Polygon", "find_contours", "ROOT_DIR"),
}
SETTING_ROWS = """
    NAME GPU_COUNT IMAGES_PER_GPU STEPS_PER_EPOCH VALIDATION_STEPS BACKBONE
    COMPUTE_BACKBONE_SHAPE BACKBONE_STRIDES FPN_CLASSIF_FC_LAYERS_SIZE TOP_DOWN_PYRAMID_SIZE
    NUM_CLASSES RPN_ANCHOR_SCALES RPN_ANCHOR_RATIOS RPN_ANCHOR_STRIDE RPN_NMS_THRESHOLD
    RPN_TRAIN_ANCHORS_PER_IMAGE PRE_NMS_LIMIT POST_NMS_ROIS_TRAINING POST_NMS_ROIS_INFERENCE
    USE_MINI_MASK MINI_MASK_SHAPE IMAGE_RESIZE_MODE IMAGE_MIN_DIM IMAGE_MAX_DIM IMAGE_MIN_SCALE
    IMAGE_CHANNEL_COUNT MEAN_PIXEL TRAIN_ROIS_PER_IMAGE ROI_POSITIVE_RATIO POOL_SIZE
    MASK_POOL_SIZE MASK_SHAPE MAX_GT_INSTANCES RPN_BBOX_STD_DEV BBOX_STD_DEV
    DETECTION_MAX_INSTANCES DETECTION_MIN_CONFIDENCE DETECTION_NMS_THRESHOLD LEARNING_RATE
    LEARNING_MOMENTUM WEIGHT_DECAY LOSS_WEIGHTS USE_RPN_ROIS TRAIN_BN GRADIENT_CLIP_NORM
"""
SETTINGS = [name for row in SETTING_ROWS.splitlines() for name in row.split()]
ROWS = [
    pytest.param(owner, row.strip(), id=f"{owner.__name__}.{row.strip().partition('(')[0]}")
    for owner, table in FUNCTIONS.items()
    for row in table.strip().splitlines()
]


def parameters(function) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


@pytest.mark.parametrize(("owner", "row"), ROWS)
def test_function_has_matterports_name_and_arguments(owner, row):
    name, _, arguments = row.rstrip(")").partition("(")
    wanted = [argument for argument in arguments.split(", ") if argument not in ("", "**")]
    found = parameters(getattr(owner, name))
    kinds = {parameter.kind for parameter in found}
    assert ("**" in arguments) <= (inspect.Parameter.VAR_KEYWORD in kinds)
    by_place = [p for p in found if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert [parameter.name for parameter in by_place] == wanted
    # What we add beside, callers name and may leave out.
    added = [p for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY]
    assert all(parameter.default is not inspect.Parameter.empty for parameter in added)


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_matterports(name):
    owner = next(o for o in (model, utils, model.MaskRCNN) if hasattr(o, name))
    found = {parameter.name: parameter.default for parameter in parameters(getattr(owner, name))}
    assert {key: found[key] for key in DEFAULTS[name]} == DEFAULTS[name]


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner, names in ATTRIBUTES.items() for name in names]
)
def test_attribute_is_reached_through_the_module(owner, name):
    assert getattr(owner, name) is not None or name == "ROOT_DIR"


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_is_there(name):
    assert hasattr(config.Config, name)


def test_number_of_names_does_not_shrink():
    assert (len(ROWS), len(SETTINGS)) == (111, 45)
