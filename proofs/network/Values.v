(** Values of activations at dyadic points, enclosed: exactly where the function is piecewise linear, by coq-interval's
    verified exponential for tanh and the logistic sigmoid. *)
From Coq Require Import Reals Lra Lia ZArith.
From Interval Require Import Specific_bigint Specific_ops Float_full Xreal Basic Interval.
From Deqops Require Import Activations Layers.
Module F := SpecificFloat BigIntRadix2.
Module I := FloatIntervalFull F.
Local Open Scope R_scope.

Definition precision := F.PtoP 64.
Definition whole_number := I.fromZ precision.
Definition quotient (n d : Z) := I.div precision (whole_number n) (whole_number d).

(** t/s - | z/s - (1 - 2 / (exp (2 u/s) + 1)) | *)
Definition tanh_slack (s u z t : Z) :=
  I.sub precision (quotient t s)
   (I.abs (I.sub precision (quotient z s)
     (I.sub precision (whole_number 1) (I.div precision (whole_number 2)
        (I.add precision (I.exp precision (quotient (2 * u) s)) (whole_number 1)))))).

(** t/s - | z/s - 1 / (1 + exp (- u/s)) | *)
Definition sigmoid_slack (s u z t : Z) :=
  I.sub precision (quotient t s)
   (I.abs (I.sub precision (quotient z s)
     (I.div precision (whole_number 1)
        (I.add precision (whole_number 1) (I.exp precision (quotient (- u) s)))))).

Definition positive_interval i : bool := match I.sign_large i with Xgt => true | _ => false end.

(** | phi (u / 2^e) - z / 2^e | <= t / 2^e *)
Definition value_ok (phi : activation) (e u z t : Z) : bool :=
  match phi with
  | Identity => (Z.abs (u - z) <=? t)%Z
  | Relu => (Z.abs (Z.max 0 u - z) <=? t)%Z
  | Leaky n d => ((0 <? d) && ((if 0 <=? u then Z.abs (u - z) else Z.abs (n * u - d * z)) <=?
                   (if 0 <=? u then t else d * t)))%Z%bool
  | Tanh => positive_interval (tanh_slack (2 ^ e) u z t)
  | Sigmoid => positive_interval (sigmoid_slack (2 ^ e) u z t)
  | Clamp _ _ _ => false
  end.

Lemma quotient_real a b : b <> 0 -> Xdiv (Xreal a) (Xreal b) = Xreal (a / b).
Proof. intros nz. unfold Xdiv, Xdiv'. now rewrite is_zero_false. Qed.

Lemma positive_sound i v : positive_interval i = true -> contains (I.convert i) (Xreal v) -> 0 <= v.
Proof.
  unfold positive_interval. pose proof (I.sign_large_correct i) as H.
  destruct (I.sign_large i); try discriminate. intros _ C.
  destruct (H _ C) as [_ Hv]. simpl in Hv. lra.
Qed.

Lemma tanh_exp u : tanh u = 1 - 2 / (exp (2 * u) + 1).
Proof.
  unfold tanh, sinh, cosh. replace (2 * u) with (u + u) by ring. rewrite exp_plus, exp_Ropp.
  pose proof (exp_pos u). field. split; nra.
Qed.

Lemma tanh_slack_sound s u z t : 0 < IZR s -> positive_interval (tanh_slack s u z t) = true ->
  Rabs (tanh (IZR u / IZR s) - IZR z / IZR s) <= IZR t / IZR s.
Proof.
  intros s0 ok. rewrite Rabs_minus_sym.
  enough (0 <= IZR t / IZR s - Rabs (IZR z / IZR s - tanh (IZR u / IZR s))) by lra.
  apply positive_sound with (1 := ok). unfold tanh_slack, quotient, whole_number.
  match goal with |- contains _ (Xreal ?v) => replace (Xreal v) with
    (Xsub (Xdiv (Xreal (IZR t)) (Xreal (IZR s)))
      (Xabs (Xsub (Xdiv (Xreal (IZR z)) (Xreal (IZR s)))
        (Xsub (Xreal 1) (Xdiv (Xreal 2) (Xadd (Xexp (Xdiv (Xreal (IZR (2 * u))) (Xreal (IZR s)))) (Xreal 1)))))))
  end.
  - repeat first [apply I.sub_correct | apply I.abs_correct | apply I.div_correct
      | apply I.add_correct | apply I.exp_correct | apply I.fromZ_correct].
  - rewrite !quotient_real by lra.
    change (Xadd (Xexp (Xreal (IZR (2 * u) / IZR s))) (Xreal 1)) with (Xreal (exp (IZR (2 * u) / IZR s) + 1)).
    rewrite quotient_real by (pose proof (exp_pos (IZR (2 * u) / IZR s)); lra).
    rewrite mult_IZR. simpl. f_equal. rewrite tanh_exp.
    now replace (2 * (IZR u / IZR s)) with (2 * IZR u / IZR s) by (unfold Rdiv; ring).
Qed.

Lemma sigmoid_slack_sound s u z t : 0 < IZR s -> positive_interval (sigmoid_slack s u z t) = true ->
  Rabs (sigmoid (IZR u / IZR s) - IZR z / IZR s) <= IZR t / IZR s.
Proof.
  intros s0 ok. rewrite Rabs_minus_sym.
  enough (0 <= IZR t / IZR s - Rabs (IZR z / IZR s - sigmoid (IZR u / IZR s))) by lra.
  apply positive_sound with (1 := ok). unfold sigmoid_slack, quotient, whole_number.
  match goal with |- contains _ (Xreal ?v) => replace (Xreal v) with
    (Xsub (Xdiv (Xreal (IZR t)) (Xreal (IZR s)))
      (Xabs (Xsub (Xdiv (Xreal (IZR z)) (Xreal (IZR s)))
        (Xdiv (Xreal 1) (Xadd (Xreal 1) (Xexp (Xdiv (Xreal (IZR (- u))) (Xreal (IZR s)))))))))
  end.
  - repeat first [apply I.sub_correct | apply I.abs_correct | apply I.div_correct
      | apply I.add_correct | apply I.exp_correct | apply I.fromZ_correct].
  - rewrite !quotient_real by lra.
    change (Xadd (Xreal 1) (Xexp (Xreal (IZR (- u) / IZR s)))) with (Xreal (1 + exp (IZR (- u) / IZR s))).
    rewrite quotient_real by (pose proof (exp_pos (IZR (- u) / IZR s)); lra).
    rewrite opp_IZR. simpl. f_equal. unfold sigmoid.
    replace (- (IZR u / IZR s)) with (- IZR u / IZR s) by (unfold Rdiv; ring).
    unfold Rdiv at 3. now rewrite Rmult_1_l.
Qed.

Lemma scaled_distance s a b t : 0 < s -> Rabs (a - b) <= t -> Rabs (a / s - b / s) <= t / s.
Proof.
  intros s0 le. replace (a / s - b / s) with ((a - b) * / s) by (unfold Rdiv; ring).
  rewrite Rabs_mult, (Rabs_pos_eq (/ s)) by (left; now apply Rinv_0_lt_compat).
  apply Rmult_le_compat_r; [left; now apply Rinv_0_lt_compat | exact le].
Qed.

Lemma abs_le a b t : (Z.abs (a - b) <=? t)%Z = true -> Rabs (IZR a - IZR b) <= IZR t.
Proof. intros le. apply Z.leb_le, IZR_le in le. now rewrite abs_IZR, minus_IZR in le. Qed.

Lemma value_ok_sound phi e u z t : (0 <= e)%Z -> value_ok phi e u z t = true ->
  Rabs (apply phi (dyadic e u) - dyadic e z) <= dyadic e t.
Proof.
  intros e0. pose proof (dyadic_positive e0) as s0. unfold dyadic.
  destruct phi as [| | | |n d|l h d]; simpl apply; unfold value_ok; intros ok.
  - apply scaled_distance, abs_le; assumption.
  - replace (relu (IZR u / IZR (2 ^ e))) with (IZR (Z.max 0 u) / IZR (2 ^ e)).
    + apply scaled_distance, abs_le; assumption.
    + pose proof (Rinv_0_lt_compat _ s0) as i0. unfold relu, Rdiv.
      destruct (Z.max_spec 0 u) as [[less ->]|[less ->]].
      * apply IZR_lt in less. rewrite Rmax_right; [reflexivity | nra].
      * apply IZR_le in less. rewrite Rmax_left; [ring | nra].
  - now apply tanh_slack_sound.
  - now apply sigmoid_slack_sound.
  - rewrite Bool.andb_true_iff in ok. destruct ok as [d0 ok]. apply Z.ltb_lt, IZR_lt in d0.
    pose proof (Rinv_0_lt_compat _ s0) as i0. unfold leaky.
    destruct (Z.leb_spec 0 u) as [pos|neg].
    + apply IZR_le in pos. destruct (Rle_dec 0 (IZR u / IZR (2 ^ e))) as [_|no].
      * apply scaled_distance, abs_le; assumption.
      * exfalso. apply no. unfold Rdiv. nra.
    + apply IZR_lt in neg. destruct (Rle_dec 0 (IZR u / IZR (2 ^ e))) as [no|_].
      * exfalso. unfold Rdiv in no. nra.
      * apply abs_le in ok. rewrite !mult_IZR in ok.
        replace (rational n d * (IZR u / IZR (2 ^ e))) with (IZR n * IZR u / IZR d / IZR (2 ^ e))
          by (unfold rational; field; lra).
        apply scaled_distance; [exact s0|].
        replace (IZR z) with (IZR d * IZR z / IZR d) by (field; lra).
        replace (IZR t) with (IZR d * IZR t / IZR d) by (field; lra).
        apply scaled_distance; assumption.
  - discriminate.
Qed.
